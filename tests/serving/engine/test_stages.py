"""Who decodes and encodes: threads beside the streams, or the streams themselves; in both cases once."""

import dataclasses
import threading
import time

import pytest

from tests.serving.engine.running import SYNTHETIC, job, request
from videogen.serving.engine.loop import Loop
from videogen.serving.engine.messages import EngineConfig, Finished, Running, Synthetic
from videogen.serving.engine.synthetic import synthetic_version

DEVICE = Synthetic(fixed_s=0.05, each_s=0.0, largest=24)
MANY = 24
"""More than have room before a stage."""


@pytest.mark.parametrize("shares_cores", [False, True])
def test_a_video_is_encoded_once_whoever_does_it(shares_cores):
    by, messages, version = [], [], synthetic_version(SYNTHETIC, DEVICE, 1)

    def encode(frames, fps):
        by.append(threading.current_thread().name)
        return version.encode(frames, fps)

    loop = Loop(EngineConfig(synthetic=DEVICE), 1, messages.append, shares_cores=shares_cores)
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
