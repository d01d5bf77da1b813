"""A drain stays with what failed and may be tried again until it has rested."""

import time
from collections import Counter
from collections.abc import Iterator

import numpy as np
import pytest

from tests.store.builders import accepted
from videogen.drain import drain
from videogen.errors import GenerationFailed
from videogen.generate import Clip, Failure, Timings
from videogen.requests import AcceptedRequest
from videogen.store.backends.memory import MemoryRecordStore
from videogen.store.records import StoreLimits
from videogen.store.store import Store

FRAMES = np.zeros((1, 8, 8, 3), np.uint8)


class Faulty:
    """Fails at each request so often, then makes its video; `at` is when it was asked."""

    def __init__(self, faults: int) -> None:
        self.faults, self.tried, self.at = faults, Counter[str](), list[float]()

    def generate(self, requests: list[AcceptedRequest], on_progress: object = None) -> Iterator[Clip | Failure]:
        for request in requests:
            self.tried[request.id] += 1
            self.at.append(time.monotonic())
            if self.tried[request.id] <= self.faults:
                yield Failure(request, GenerationFailed("it may pass"))
            else:
                yield Clip(request, FRAMES, Timings(0.0, 0.0, 0.0, 1, False))


@pytest.fixture
def store() -> Store:
    return Store(MemoryRecordStore(), StoreLimits(first_retry=0.6))


def work(store: Store, batch_id: str, generator: Faulty):
    return drain(store, batch_id, generator, holder="run", provenance={}, encode=lambda *_: b"video", lease_s=10.0)


def test_it_tries_again_itself_after_the_rest(store):
    one = store.submit(accepted()).id
    generator = Faulty(faults=2)
    report = work(store, store.seal_batch([one], 60.0).id, generator)
    assert set(report.published) == {one} and store.request(one).attempts == 3
    first, second, third = generator.at
    assert second - first >= 0.3 and third - second >= 0.6


def test_a_batch_of_which_everything_rests_is_waited_for(store):
    one = store.submit(accepted()).id
    (claim,) = store.claim([one], "before", 10.0)
    store.fail(claim, "it may pass", retry=True)
    batch = store.seal_batch([one], 60.0)
    report = work(store, batch.id, Faulty(faults=0))
    assert set(report.published) == {one} and store.batch(batch.id).state == "finished"


def test_what_is_cancelled_while_it_rests_is_not_waited_for(store):
    one = store.submit(accepted()).id
    (claim,) = store.claim([one], "before", 10.0)
    store.fail(claim, "it may pass", retry=True)
    batch = store.seal_batch([one], 60.0)
    store.cancel(one)
    assert not work(store, batch.id, Faulty(faults=0)).published and store.request(one).state == "cancelled"
