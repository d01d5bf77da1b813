"""Store calls of callers, in real threads: how many may wait, and what becomes of them when the store goes away."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from videogen.errors import Draining, StoreBusy, StoreUnavailable
from videogen.serving.bounded_calls import BoundedCalls

SECONDS = 30.0


@pytest.fixture
def threads():
    with ThreadPoolExecutor(1) as threads:
        yield threads


def test_what_is_too_much_is_refused_at_once_and_makes_room_as_it_ends(threads):
    calls, gate = BoundedCalls(threads, lambda: None, most=2), threading.Event()
    first, second = calls.submit(gate.wait, SECONDS), calls.submit(lambda: "second")
    with pytest.raises(StoreBusy, match="2 calls wait for the store; allowed: 2"):
        calls.submit(lambda: None)
    assert threads.submit(lambda: None) is not None, "what the service itself does is not bounded"
    assert second.cancel()
    third = calls.submit(lambda: "third")
    gate.set()
    assert first.result(SECONDS) and third.result(SECONDS) == "third"
    assert [calls.submit(lambda: "more").result(SECONDS) for _ in range(5)] == ["more"] * 5


def test_while_the_store_is_away_nothing_is_asked_of_it_and_what_waits_is_told(threads):
    away = [None]
    calls, gate, asked = BoundedCalls(threads, lambda: away[0]), threading.Event(), []
    calls.submit(gate.wait, SECONDS)
    waiting = [calls.submit(asked.append, number) for number in range(3)]
    away[0] = "the store is away: no answer"
    with pytest.raises(StoreUnavailable, match="no answer"):
        calls.submit(asked.append, 3)
    gate.set()
    for one in waiting:
        with pytest.raises(StoreUnavailable, match="no answer"):
            one.result(SECONDS)
    away[0] = None
    calls.submit(asked.append, 4).result(SECONDS)
    assert asked == [4]


def test_a_failed_call_counts_no_more(threads):
    calls = BoundedCalls(threads, lambda: None, most=1)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            calls.submit(lambda: 1 // 0).result(SECONDS)


class Threadless(ThreadPoolExecutor):
    """On a machine that can start no thread."""

    def submit(self, *given, **named):
        raise RuntimeError("can't start new thread")


def test_a_machine_without_threads_is_not_told_as_a_service_that_has_ended():
    calls = BoundedCalls(Threadless(1), lambda: None, most=1)
    for _ in range(3):
        with pytest.raises(RuntimeError, match="can't start new thread"):
            calls.submit(lambda: None)


def test_a_call_that_outlasts_the_service_is_told_that_it_has_ended():
    with ThreadPoolExecutor(1) as threads:
        calls = BoundedCalls(threads, lambda: None, most=1)
    for _ in range(3):
        with pytest.raises(Draining, match="another replica"):
            calls.submit(lambda: None)
