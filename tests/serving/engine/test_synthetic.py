"""The engine process as the service drives it, with a device without networks: work, cancels, deaths and hangs."""

import asyncio
import contextlib
import dataclasses
import itertools
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import psutil
import pytest

from tests.serving.engine.running import DIGEST, QUICK, SLOW, SYNTHETIC, engine, job, request
from videogen.errors import EngineError, EngineUnavailable
from videogen.media.mp4 import decode_mp4
from videogen.serving.engine_process import (
    Died,
    EngineConfig,
    EngineProcess,
    Failed,
    Finished,
    Progress,
    Stats,
    Synthetic,
)

STEADY = EngineConfig(synthetic=Synthetic(fixed_s=0.06, each_s=0.001))
"""Two of its steps take longer than `Policy.fused_max_s`, so none are taken together."""


def test_every_job_is_told_of_step_by_step_and_ends_with_a_video():
    async def scenario():
        async with engine(STEADY, SYNTHETIC) as (process, told):
            requests = [request(seed) for seed in range(20)]
            for accepted in requests:
                process.run(job(accepted))
            await told.until(lambda: len(told.ends) == 20)
            for accepted in requests:
                steps = [event.steps_done for event in told.of(Progress) if event.id == accepted.id]
                assert steps == [1, 2, 3, 4]
                finished = told.ends[accepted.id]
                assert decode_mp4(finished.mp4).shape == (8, 32, 32, 3)
                assert finished.facts["synthetic"]
                assert finished.facts["target"] == "synthetic"
                assert sum(finished.facts["batches"].values()) == 4
            assert max(int(size) for end in told.ends.values() for size in end.facts["batches"]) > 1
            assert process.held == frozenset()

    asyncio.run(scenario())


def test_a_start_that_is_cancelled_leaves_no_process():
    here = set(psutil.Process().children())

    async def scenario():
        for is_there, turns in itertools.product((False, True), range(1, 6)):
            process = EngineProcess(STEADY, lambda event: None)
            starting = asyncio.ensure_future(process.start())
            while is_there and process.pid is None:
                await asyncio.sleep(0)
            for _ in range(turns):
                await asyncio.sleep(0)
            starting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await starting
            await process.stop(0)
            assert process.pid is None
        assert not set(psutil.Process().children()) - here, "one was left"

    asyncio.run(scenario())


def test_the_synthetic_device_starts_without_torch():
    loaded = (
        "import sys, videogen.serving.engine.worker, videogen.serving.engine.synthetic, videogen.serving.engine.loop"
    )
    code = f"{loaded}; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_a_cancelled_job_ends_at_its_next_boundary_and_may_come_again():
    async def scenario():
        async with engine(SLOW, SYNTHETIC) as (process, told):
            accepted = request()
            process.run(job(accepted))
            await told.until(lambda: told.of(Progress))
            process.cancel(accepted.id)
            process.run(job(accepted))
            await told.until(lambda: accepted.id in told.ends)
            assert isinstance(told.ends[accepted.id], Finished)
            other = request(1)
            process.run(job(other))
            await told.until(lambda: other.id in process.busy)
            process.cancel(other.id)
            await told.until(lambda: other.id in told.ends)
            assert told.ends[other.id] == Failed(other.id, "it was cancelled", "cancelled", retry=False)

    asyncio.run(scenario())


def test_a_job_that_waits_may_come_again_before_its_cancel_is_answered():
    async def scenario():
        async with engine(QUICK, SYNTHETIC) as (process, told):
            process.pause()
            accepted = request()
            process.run(job(accepted))
            await told.until(lambda: any(stats.waiting for stats in told.of(Stats)))
            process.cancel(accepted.id)
            process.run(job(accepted))
            process.resume()
            await told.until(lambda: accepted.id in told.ends)
            assert isinstance(told.ends[accepted.id], Finished)
            assert len([event for event in told.events if isinstance(event, Failed | Finished)]) == 1

    asyncio.run(scenario())


def test_what_cannot_be_done_is_refused_and_the_rest_goes_on():
    async def scenario():
        async with engine(QUICK, SYNTHETIC) as (process, told):
            fine, unknown, broken = request(0), request(1), request(2)
            process.run(dataclasses.replace(job(unknown), version_digest="e" * 64))
            process.run(dataclasses.replace(job(broken), request={"id": broken.id}))
            process.run(job(fine))
            await told.until(lambda: len(told.ends) == 3)
            assert "not loaded" in told.ends[unknown.id].error
            assert isinstance(told.ends[broken.id], Failed)
            assert isinstance(told.ends[fine.id], Finished)

    asyncio.run(scenario())


def test_a_killed_process_is_told_of_with_what_it_was_at_and_what_merely_waited():
    async def scenario():
        config = dataclasses.replace(SLOW, synthetic=dataclasses.replace(SLOW.synthetic, largest=2))
        async with engine(config, SYNTHETIC) as (process, told):
            requests = [request(seed) for seed in range(6)]
            for accepted in requests:
                process.run(job(accepted))
            await told.until(lambda: told.of(Progress))
            os.kill(process.pid, signal.SIGKILL)
            await told.until(lambda: told.of(Died))
            died = told.of(Died)[0]
            assert died.exit_code == -signal.SIGKILL
            assert died.held == {accepted.id for accepted in requests}
            assert 1 <= len(died.busy) <= 2
            assert not process.alive
            await process.start()
            await process.load(SYNTHETIC)
            process.run(job(requests[0]))
            await told.until(lambda: requests[0].id in told.ends)

    asyncio.run(scenario())


def test_a_process_that_hangs_is_ended():
    async def scenario():
        async with engine(dataclasses.replace(QUICK, hang_after_s=2.0), SYNTHETIC) as (process, told):
            pid = process.pid
            os.kill(pid, signal.SIGSTOP)
            with pytest.raises(EngineUnavailable, match="ended"):
                await process.unload(DIGEST)
            await told.until(lambda: told.of(Died))
            assert not psutil.pid_exists(pid)

    asyncio.run(scenario())


def test_a_call_that_hangs_ends_the_process():
    stuck = dataclasses.replace(SLOW, synthetic=dataclasses.replace(SLOW.synthetic, fixed_s=600), hang_after_s=2.0)

    async def scenario():
        async with engine(stuck, SYNTHETIC) as (process, told):
            accepted = request()
            process.run(job(accepted))
            await told.until(lambda: told.of(Died))
            assert told.of(Died)[0].busy == {accepted.id}

    asyncio.run(scenario())


def test_what_is_malformed_ends_it_with_a_named_error():
    async def scenario():
        for frame in (b"\x00\x00\x00\x02" + bytes(8) + b"{}", b"\xff" * 64):
            async with engine(QUICK) as (process, told):
                process._child._writer.write(frame)
                await told.until(lambda told=told: told.of(Died))
                assert told.of(Died)[0].exit_code == os.EX_DATAERR

    asyncio.run(scenario())


def test_paused_it_begins_no_step_and_still_speaks():
    async def scenario():
        async with engine(QUICK, SYNTHETIC) as (process, told):
            process.pause()
            accepted = request()
            process.run(job(accepted))
            await told.until(lambda: any(stats.paused for stats in told.of(Stats)))
            await told.until(lambda: told.of(Stats)[-1].waiting == 1)
            assert not told.of(Progress)
            process.resume()
            await told.until(lambda: accepted.id in told.ends)

    asyncio.run(scenario())


def test_stopped_it_finishes_what_fits_into_the_grace_and_hands_back_the_rest():
    async def scenario():
        async with engine(QUICK, SYNTHETIC) as (process, told):
            for seed in range(8):
                process.run(job(request(seed)))
            assert await process.stop(30) == frozenset()
            assert len(told.ends) == 8
        async with engine(SLOW, SYNTHETIC) as (process, told):
            requests = [request(seed) for seed in range(8)]
            for accepted in requests:
                process.run(job(accepted))
            assert await process.stop(0.1) == {accepted.id for accepted in requests}
            assert not told.of(Died)

    asyncio.run(scenario())


def test_a_batch_is_held_open_where_more_are_expected_unless_told_never_to():
    device = Synthetic(fixed_s=0.3, each_s=0.0)

    async def held_s(hold_max_s):
        async with engine(EngineConfig(synthetic=device, hold_max_s=hold_max_s), SYNTHETIC) as (process, told):
            for seed in range(40):
                process.run(job(request(seed, num_inference_steps=1)))
                await asyncio.sleep(0.025)
            await told.until(lambda: len(told.ends) == 40)
            count = len(told.of(Stats))
            await told.until(lambda: len(told.of(Stats)) > count)
            return told.of(Stats)[-1].held_s

    assert asyncio.run(held_s(0.0)) == 0
    assert 0 < asyncio.run(held_s(0.1)) < 4


def test_a_version_that_jobs_need_is_not_unloaded():
    async def scenario():
        async with engine(SLOW, SYNTHETIC, dataclasses.replace(SYNTHETIC, version_digest="e" * 64)) as (process, told):
            accepted = request()
            process.run(job(accepted))
            await told.until(lambda: told.of(Progress))
            with pytest.raises(EngineError, match="still needed"):
                await process.unload(DIGEST)
            await process.unload("e" * 64)
            await told.until(lambda: accepted.id in told.ends)
            await process.unload(DIGEST)
            with pytest.raises(EngineError, match="not loaded"):
                await process.unload(DIGEST)

    asyncio.run(scenario())


def test_it_ends_with_the_process_that_started_it(tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(
        textwrap.dedent("""
        import asyncio
        from tests.serving.engine.running import QUICK, SYNTHETIC, engine

        async def main():
            async with engine(QUICK, SYNTHETIC) as (process, _):
                print(process.pid, flush=True)
                await asyncio.sleep(600)

        asyncio.run(main())
        """)
    )
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd())}
    parent = subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, env=environment)
    try:
        pid = int(parent.stdout.readline())
    finally:
        parent.kill()
        parent.wait()
        parent.stdout.close()
    end = time.monotonic() + 20
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < end
        time.sleep(0.05)
