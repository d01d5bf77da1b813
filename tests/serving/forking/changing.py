"""What the tests of changes share: a slow device, a job that it makes, and which video that became."""

import asyncio
import dataclasses
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.serving.in_process import CALLER, served
from videogen.serving.engine.messages import Synthetic
from videogen.serving.engine.synthetic import sample
from videogen.serving.service import Service
from videogen.store.store import Store

DEVICE = Synthetic(fixed_s=0.06, each_s=0.001)
"""Two of its steps take longer than those that may be taken together."""
LONG = {"prompt": "a red ball", "num_inference_steps": 30, "seed": 0}
BLUE = {"prompt": "a blue ball"}
OLD, NEW = 0, 1
"""Which sample a device without networks makes of seed 0: as asked first, and changed once."""


async def steps_of(service, job_id: str, at_least: int) -> None:
    async def there() -> bool:
        return (await service.get(job_id, CALLER)).progress * 30 >= at_least

    while not await there():
        await asyncio.sleep(0.01)


@asynccontextmanager
async def made(store, at_least: int, fields=LONG, **options) -> AsyncIterator[tuple[Service, str]]:
    """A service, and the id of a job of `fields` that it has taken some steps of. `options` as `served` has them."""
    async with served(store, DEVICE, **options) as service:
        job = await service.submit(fields, CALLER)
        await steps_of(service, job.id, at_least)
        yield service, job.id


def video_of(store: Store, job) -> int:
    """Which of the device's samples it is."""
    data = store.read_video(job.video.digest)
    return next(number for number in range(8) if sample(number) == data)


def gated(service) -> None:
    """What the device makes may be shared, as what passed its gates."""
    service.versions.admit(dataclasses.replace(service.versions.current, ungated=False))


def kill_engine(service) -> None:
    pid = service.work.engine.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
