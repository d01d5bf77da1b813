"""An engine process that hangs under load: the service answers throughout, and another process finishes the work."""

import asyncio
import os
import signal

from tests.serving.in_process import CALLER, end_of, run, served, until
from videogen.serving.engine.messages import Synthetic
from videogen.store.backends.memory import MemoryRecordStore
from videogen.store.store import Store

DEVICE = Synthetic(fixed_s=0.05, largest=2)
HANG_AFTER_S = 2.0


def asked(seed: int) -> dict:
    return {"prompt": "a red ring", "seed": seed, "num_inference_steps": 10}


def test_the_work_of_an_engine_process_that_hangs_is_finished_by_its_successor():
    async def test() -> None:
        async with served(Store(MemoryRecordStore()), DEVICE, hang_after_s=HANG_AFTER_S) as service:
            jobs = [await service.submit(asked(seed), CALLER) for seed in range(6)]
            await until(lambda: service.maker.engine.busy)
            hung, answered = service.maker.engine.pid, 0
            os.kill(hung, signal.SIGSTOP)
            while not service.maker.reviver.restarts:
                jobs.append(await service.submit(asked(len(jobs)), CALLER))
                assert (await service.get(jobs[-1].id, CALLER)).status in ("queued", "in_progress")
                assert service.readiness.live
                answered += 1
                await asyncio.sleep(0.2)
            assert answered > 1
            ends = await asyncio.gather(*(end_of(service, job.id) for job in jobs))
            assert {end.status for end in ends} == {"completed"}
            assert service.maker.engine.pid != hung and service.readiness.ready

    run(test)
