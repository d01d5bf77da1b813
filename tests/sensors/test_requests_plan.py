"""The planners alone, over tables of situations."""

from sensors.requests import (
    Cursor,
    Limits,
    OpenBatch,
    Waiting,
    cursor_after,
    looked_at,
    plan_launches,
    plan_seals,
    read_cursor,
    write_cursor,
)

LIMITS = Limits(requests_per_batch=3, batches_per_tick=2, open_per_version=2)


def _waiting(count, version="d1", age=60.0, start=0, urgent=False):
    return [Waiting(f"{version}-{number}", version, age, urgent) for number in range(start, start + count)]


def _batch(name="b1", version="d1", attempt=1, sealed=True):
    return OpenBatch(name, version, attempt, sealed)


def test_nothing_waits():
    assert plan_seals([], [], LIMITS) == []


def test_a_batch_holds_one_version_and_keeps_the_order_of_turn():
    waiting = [Waiting("a", "d2", 60), Waiting("b", "d1", 60), Waiting("c", "d2", 60)]
    assert plan_seals(waiting, [], LIMITS) == [("a", "c"), ("b",)]


def test_more_than_a_batch_holds_and_more_than_a_tick_does():
    assert plan_seals(_waiting(5), [], LIMITS) == [("d1-0", "d1-1", "d1-2"), ("d1-3", "d1-4")]
    assert len(plan_seals(_waiting(100), [], LIMITS)) == 2
    assert len(plan_seals(_waiting(1, "d1") + _waiting(1, "d2") + _waiting(1, "d3"), [], LIMITS)) == 2


def test_a_run_gets_work_for_so_long_where_the_versions_speed_is_known():
    limits = Limits(run_s=300, most_per_batch=40, requests_per_batch=3, open_per_version=1)
    for seconds, size in ((10.0, 30), (0.001, 40), (1000.0, 1)):
        (sealed,) = plan_seals(_waiting(50), [], limits, {"d1": seconds})
        assert len(sealed) == size
    (sealed,) = plan_seals(_waiting(50), [], limits, {"d2": 10.0})
    assert len(sealed) == 3


def test_while_a_version_has_its_share_of_open_batches_requests_gather():
    open_batches = [_batch("b1", sealed=False), _batch("b2")]
    assert plan_seals(_waiting(3), open_batches, LIMITS) == []
    assert plan_seals(_waiting(3) + _waiting(1, "d2"), open_batches, LIMITS) == [("d2-0",)]
    assert plan_seals(_waiting(3), open_batches[:1], LIMITS) == [("d1-0", "d1-1", "d1-2")]


def test_a_burst_that_still_arrives_is_waited_for_but_not_for_long():
    limits = Limits(requests_per_batch=3, linger=2, linger_at_most=10)
    assert plan_seals(_waiting(2, age=0.5), [], limits) == []
    assert plan_seals(_waiting(2, age=3), [], limits) == [("d1-0", "d1-1")]
    assert plan_seals([*_waiting(1, age=11), *_waiting(1, age=0.5, start=1)], [], limits) == [("d1-0", "d1-1")]
    assert plan_seals(_waiting(3, age=0.5), [], limits) == [("d1-0", "d1-1", "d1-2")]  # a full batch
    assert plan_seals(_waiting(1, age=0.5, urgent=True), [], limits) == [("d1-0",)]


def test_each_sealing_of_a_batch_is_launched_once():
    batches = [_batch("b1"), _batch("b2", sealed=False), _batch("b3", attempt=2)]
    assert [batch.run_key for batch in plan_launches(batches, Cursor())] == ["b1:1", "b3:2"]
    cursor = cursor_after(batches, None)
    assert plan_launches(batches, cursor) == []
    assert [batch.run_key for batch in plan_launches([_batch("b1", attempt=2)], cursor)] == ["b1:2"]


def test_the_cursor_forgets_batches_that_are_no_longer_sealed():
    assert cursor_after([_batch("b1", sealed=False)], 5.0) == Cursor((), 5.0)


def test_the_cursor_reads_back():
    for cursor in (Cursor(), Cursor(("b1:1",), 12.5)):
        assert read_cursor(write_cursor(cursor)) == cursor
    assert read_cursor(None) == Cursor()


def test_what_was_seen_is_said_in_numbers():
    assert looked_at(0, False, [], 0, 0) == "0 requests waiting, 0 batches sealed, 0 being drained"
    said = looked_at(1024, True, [_batch(), _batch("b2", sealed=False)], 1, 2)
    assert said == (
        "1024 or more requests waiting, 1 batches sealed, 1 being drained, 2 sealed now,"
        " 1 given back because no run held them any more"
    )
