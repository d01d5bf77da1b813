"""The service without its faces, in the test's own process: a real engine process, a store in memory or on disk."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

from videogen.serving.admission import ServiceLimits
from videogen.serving.changes import Changes
from videogen.serving.engine.messages import EngineConfig, Synthetic
from videogen.serving.jobs import Caller
from videogen.serving.making.in_hand import Making
from videogen.serving.making.maker import Maker
from videogen.serving.service import Service
from videogen.serving.telemetry.observing import Ended, Observer
from videogen.serving.versions.preparing import synthetic
from videogen.serving.versions.served import Versions
from videogen.serving.versions.swapping import Swapper
from videogen.serving.wishes import Wishes
from videogen.store.store import Store

CALLER = Caller("default", None, frozenset({"user", "admin"}))
SECONDS = 60.0


class Heard(Observer):
    """What observers hear of ends."""

    def __init__(self) -> None:
        self.ends: list[Ended] = []

    def ended(self, job: Ended) -> None:
        self.ends.append(job)

    @property
    def outcomes(self) -> dict[str, str]:
        assert len({job.job_id for job in self.ends}) == len(self.ends), "a job was told of twice"
        return {job.job_id: job.outcome for job in self.ends}


@asynccontextmanager
async def served(
    store: Store,
    device: Synthetic,
    making: Making | None = None,
    limits: ServiceLimits | None = None,
    observer: Observer | None = None,
    name: str = "me",
    following: Callable[[Maker], Swapper | None] = lambda maker: None,
    wishes: Wishes | None = None,
    grace_s: float = 5.0,
    hang_after_s: float = 60.0,
) -> AsyncIterator[Service]:
    with ThreadPoolExecutor(4) as executor:
        config = EngineConfig(synthetic=device, hang_after_s=hang_after_s)
        maker = Maker(
            store, config, Versions(), Changes(), name, executor, observer or Observer(), limits=making or Making()
        )
        service = Service(maker, limits, swapper=following(maker), wishes=wishes)
        await maker.start(*synthetic())
        try:
            yield service
        finally:
            await service.stop(grace_s)


def run(test: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), SECONDS))


async def until(what: Callable[[], Any]) -> None:
    deadline = time.monotonic() + SECONDS
    while not what():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


async def end_of(service: Service, job_id: str) -> Any:
    """The job as it ended."""
    return [job async for job in service.watch(job_id, CALLER)][-1]
