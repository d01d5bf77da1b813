"""Who decodes and encodes: threads beside the streams, or the streams themselves; in both cases once."""

import dataclasses
import threading
import time

import pytest

from tests.serving.engine.running import SYNTHETIC, job, request
from videogen.serving.engine.loop import Loop
from videogen.serving.engine.messages import EngineConfig, Failed, Finished, Running, Synthetic
from videogen.serving.engine.synthetic import SyntheticModel, synthetic_version

STAGES = {"videogen-decode", "videogen-mp4"}
DEVICE = Synthetic(fixed_s=0.05, each_s=0.0, largest=24)
MANY = 24
"""More than have room before a stage."""


@pytest.mark.parametrize("shares_cores", [False, True])
def test_a_video_is_encoded_once_whoever_does_it(shares_cores):
    by, messages, version = [], [], synthetic_version(SYNTHETIC, DEVICE, 1)

    def encode(frames, fps):
        by.append(threading.current_thread().name)
        return version.encode(frames, fps)

    before = set(threading.enumerate())
    loop = Loop(EngineConfig(synthetic=DEVICE), 1, messages.append, shares_cores=shares_cores)
    started = {thread.name for thread in set(threading.enumerate()) - before}
    assert started & STAGES == (set() if shares_cores else STAGES)
    loop.add(dataclasses.replace(version, encode=encode))
    loop.pause(True)
    asked = [request(seed) for seed in range(MANY)]
    for accepted in asked:
        loop.run(job(accepted))
    end = time.monotonic() + 30
    while loop.stats().waiting < MANY:
        assert time.monotonic() < end
        time.sleep(0.01)
    loop.pause(False)
    assert loop.drained(30)
    finished = [message for message in messages if isinstance(message, Finished)]
    assert sorted(one.id for one in finished) == sorted(accepted.id for accepted in asked)
    assert max(int(size) for one in finished for size in one.facts["batches"]) > 16, "no batch was beyond the room"
    assert len(by) == MANY, "a video was encoded more than once"
    if shares_cores:
        assert set(by) == {"videogen-stream-0"}
        places = {message.place for message in messages if isinstance(message, Running)}
        assert places <= {"text", "stream 0"}


class Picky(SyntheticModel):
    """One whose steps fail for a seed."""

    def step(self, generations, count=1):
        if any(generation.request.request.seed == 0 for generation in generations):
            raise ValueError("not this one")
        return super().step(generations, count)


def test_who_fails_at_a_step_is_told_before_the_others_are_encoded():
    messages, version = [], synthetic_version(SYNTHETIC, DEVICE, 1)
    loop = Loop(EngineConfig(synthetic=DEVICE), 1, messages.append, shares_cores=True)
    loop.add(dataclasses.replace(version, model=Picky(DEVICE)))
    loop.pause(True)
    for seed in range(4):
        loop.run(job(request(seed, num_inference_steps=1)))
    end = time.monotonic() + 30
    while loop.stats().waiting < 4:
        assert time.monotonic() < end
        time.sleep(0.01)
    loop.pause(False)
    assert loop.drained(30)
    told = [type(message) for message in messages if isinstance(message, Failed | Finished)]
    assert told == [Failed, Finished, Finished, Finished]
