"""What becomes of work when the engine process dies, and dies again while it comes up: real processes, a real store."""

import asyncio
import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from videogen.serving.changes import Changes
from videogen.serving.engine.messages import EngineConfig, Synthetic
from videogen.serving.jobs import Caller
from videogen.serving.making import Maker
from videogen.serving.preparing import synthetic
from videogen.serving.service import Service
from videogen.serving.versions import Versions
from videogen.store.store import Store

CALLER = Caller("default", None, frozenset({"user", "admin"}))
SECONDS = 60.0


async def until(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not what():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


def engines() -> set[int]:
    """The pids of this process's engine processes."""
    children = Path("/proc/self/task").glob("*/children")
    pids = {int(pid) for path in children for pid in path.read_text().split()}
    return {pid for pid in pids if "serving.engine" in Path(f"/proc/{pid}/cmdline").read_text()}


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="counts processes in Linux's /proc")
def test_an_engine_process_that_dies_while_it_comes_up_has_one_successor_and_no_job_is_lost(tmp_path):
    config = EngineConfig(synthetic=Synthetic(load_s=1.0))

    async def run(store: Store, executor: ThreadPoolExecutor) -> None:
        maker = Maker(store, config, Versions(), Changes(), "me", executor)
        service = Service(maker)
        await maker.start(*synthetic())
        ids = [(await service.submit({"prompt": "a red ring", "seed": n}, CALLER)).id for n in range(6)]
        first = maker.engine.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        await until(lambda: maker.engine.alive and maker.engine.pid != first)
        assert not service.ready
        started = {first, maker.engine.pid}
        os.kill(engines().pop(), signal.SIGKILL)
        ids.append((await service.submit({"prompt": "a red ring", "seed": 99}, CALLER)).id)
        await until(lambda: started.add(maker.engine.pid) or service.ready)
        for job_id in ids:
            ends = [job async for job in service.watch(job_id, CALLER)]
            assert ends[-1].status == "completed", ends[-1]
        assert maker.restarts == 1 and engines() == {maker.engine.pid}
        assert len(started - {None}) == 3, "two successors ended each other"
        await service.stop(5.0)

    with ThreadPoolExecutor(4) as executor, Store.open(f"embedded:{tmp_path / 'store'}") as store:
        asyncio.run(run(store, executor))
