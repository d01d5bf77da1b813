"""What is admitted: by what stands before a request in the store, and how fast all replicas together answer."""

import threading

import pytest

from tests.serving.in_process import CALLER, run, served
from tests.store.builders import DIGEST, Clock, accepted, memory_store
from videogen.errors import Overloaded
from videogen.serving import admission as looking_ahead
from videogen.serving.admission import Admission, Pace, ServiceLimits
from videogen.serving.engine.messages import Loaded, Synthetic
from videogen.serving.making.speed import Speed
from videogen.serving.telemetry.reporting import ended
from videogen.store.backends.memory import MemoryRecordStore
from videogen.store.servers import LIVE_S, Server
from videogen.store.store import Store

PER_SECOND = 10.0
STEP_S = 0.05
FIRST = {"prompt": "a red ring", "seed": 99}


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def store(clock):
    return memory_store(clock)


def asked(seed, **fields):
    return accepted(seed, lane="interactive", **fields)


def fill(store, count, **fields):
    return [store.submit(asked(seed, **fields)) for seed in range(count)]


def admission(store, most_work_s=2.0, lent=0, steps_each=None):
    """As a replica that has just been started has it."""
    pace = Pace(Server("me", frozenset({DIGEST}), PER_SECOND), STEP_S, lent, steps_each=steps_each)
    return Admission(store, ServiceLimits(most_work_s), lambda accepted: pace)


def test_the_queue_is_bounded_by_the_work_that_waits_in_the_store(store):
    fill(store, 20)
    admission(store).check(asked(99))
    fill(store, 11)
    with pytest.raises(Overloaded, match="allowed: 2 s") as refused:
        admission(store).check(asked(99))
    assert refused.value.eta_s == pytest.approx(32 / PER_SECOND + STEP_S / 2, abs=0.01)
    assert refused.value.retry_after_s == pytest.approx(1.1, abs=0.01)


def test_a_deadline_behind_a_queue_is_refused_and_a_later_one_is_not(store):
    fill(store, 15)
    admission(store).check(asked(99, deadline=10.0))
    with pytest.raises(Overloaded, match="deadline: got 1 s; its video would be there in about"):
        admission(store).check(asked(99, deadline=1.0))


def test_replicas_that_live_share_the_work_and_those_that_serve_another_version_or_are_dead_do_not(store, clock):
    fill(store, 30)
    store.servers.tell(Server("another version's", frozenset({"e" * 64}), 100.0))
    with pytest.raises(Overloaded):
        admission(store).check(asked(99))
    store.servers.tell(Server("a second", frozenset({DIGEST}), PER_SECOND))
    admission(store).check(asked(99))
    clock.pass_(LIVE_S + 1)
    with pytest.raises(Overloaded):
        admission(store).check(asked(99))


def test_an_urgent_request_is_not_behind_work_that_it_goes_before(store):
    fill(store, 31, priority="batch")
    admission(store).check(asked(99, priority="interactive", deadline=2.0))
    with pytest.raises(Overloaded):
        admission(store).check(asked(99, priority="batch"))


def test_a_tenant_is_not_refused_for_what_another_sent(store):
    fill(store, 100, tenant="flood")
    admission(store).check(asked(99, tenant="quiet"))
    with pytest.raises(Overloaded):
        admission(store).check(asked(99, tenant="flood"))


def test_what_is_answered_at_once_is_never_refused(store):
    done = store.submit(asked(99))
    (claim,) = store.claim([done.id], "w", 60.0)
    store.publish(claim, b"mp4", {})
    fill(store, 31)
    admission(store).check(asked(99, deadline=0.01))
    with pytest.raises(Overloaded):
        admission(store).check(asked(98))


def test_what_was_submitted_since_the_last_look_counts_and_what_runs_lent_does(store):
    one = admission(store)
    one.check(asked(99))
    for record in fill(store, 31):
        one.entered(record)
    with pytest.raises(Overloaded):
        one.check(asked(99))
    with pytest.raises(Overloaded):
        admission(memory_store(), lent=21).check(asked(99))


def test_what_is_submitted_again_with_its_key_counts_once(store):
    one = admission(store)
    one.check(asked(99))
    for record in fill(store, 12):
        for _ in range(3):
            one.entered(record)
    one.check(asked(99))


def test_what_the_line_showed_before_it_was_submitted_again_counts_once(store):
    records = fill(store, 12)
    one = admission(store)
    one.check(asked(99))
    for record in records:
        one.entered(record)
    one.check(asked(99, deadline=13 / PER_SECOND + STEP_S))


def test_what_enters_just_when_a_look_ends_is_taken(store, monkeypatch):
    """A look forgets what it collected only while nobody is about to add to it."""
    one, ends, goes_on = admission(store), threading.Event(), threading.Event()
    clock, looks = looking_ahead.time.monotonic, []

    class Halting:
        @staticmethod
        def monotonic():
            looks.append(clock())
            if len(looks) == 3:  # after the line was counted
                ends.set()
                goes_on.wait(10)
            return looks[-1]

    monkeypatch.setattr(looking_ahead, "time", Halting)
    looking = threading.Thread(target=one.check, args=(asked(99),))
    looking.start()
    assert ends.wait(10)
    with one._changing:
        goes_on.set()
        looking.join(0.2)
        assert one._since is not None
    looking.join(10)
    assert one._since is None


def test_what_ended_here_counts_no_more(store):
    one = admission(store)
    one.check(asked(99))
    records = fill(store, 31)
    for record in records:
        one.entered(record)
    with pytest.raises(Overloaded):
        one.check(asked(99))
    for record in records[:20]:
        one.ended(ended(record.accepted, "completed", 0.0))
    one.check(asked(99, deadline=12 / PER_SECOND + STEP_S))


def test_what_is_known_to_take_more_steps_counts_for_more_and_other_replicas_work_as_usual(store):
    one = admission(store, most_work_s=60.0, steps_each=4.0)
    one.check(asked(99))
    own = [store.submit(asked(seed, num_inference_steps=20)) for seed in range(10)]
    for record in own:
        one.entered(record)
    store.submit(asked(50, num_inference_steps=20))
    last = store.submit(asked(99, num_inference_steps=20))
    one.entered(last)
    assert one.place(last).seconds == pytest.approx((10 * 5 + 5) / PER_SECOND + STEP_S / 2)
    with pytest.raises(Overloaded) as refused:
        one.check(asked(98, num_inference_steps=4, deadline=5.0))
    assert refused.value.eta_s == pytest.approx((11 * 5 + 1) / PER_SECOND + STEP_S / 2)
    for record in own:
        one.ended(ended(record.accepted, "completed", 0.0))
    one.check(asked(98, num_inference_steps=4, deadline=5.0))
    assert one.place(last).seconds == pytest.approx(20 * STEP_S + STEP_S / 2)
    looked = admission(store, most_work_s=60.0, steps_each=4.0)
    assert looked.place(last).seconds == pytest.approx((11 + 5) / PER_SECOND + STEP_S / 2)


def test_the_estimate_of_a_long_video_is_the_same_before_any_was_made_and_after_many():
    speed, told = Speed(), {"1": 0.06, "4": 0.12}
    speed.learn(Loaded("digest", 1.0, 0, 0, "key", "fp32", "cpu", False, 4, 0.1, told), steps=4, streams=1)

    def estimate(store) -> float:
        pace = Pace(Server("me", frozenset({DIGEST}), 1 / speed.seconds_each), 0.0, steps_each=speed.steps_each)
        one = Admission(store, ServiceLimits(), lambda accepted: pace)
        one.check(asked(99))
        records = [store.submit(asked(seed, num_inference_steps=20)) for seed in range(10)]
        for record in records:
            one.entered(record)
        return one.place(records[-1]).seconds

    assert estimate(memory_store()) == pytest.approx(10 * 20 * 0.12 / 4)
    for number in range(50):
        speed.made({"device_seconds": 20 * 0.12 / 4, "batches": {"4": 20}})
        if number in (0, 5, 49):
            assert estimate(memory_store()) == pytest.approx(10 * 20 * 0.12 / 4)


def test_what_shares_its_batch_is_not_waited_for(store):
    pace = Pace(Server("me", frozenset({DIGEST}), 100.0), step_s=0.1)
    one = Admission(store, ServiceLimits(), lambda accepted: pace)
    fill(store, 30)
    steps = asked(99).request.num_inference_steps
    one.check(asked(99, deadline=(steps + 0.6) * 0.1))
    with pytest.raises(Overloaded):
        one.check(asked(99, deadline=(steps + 0.4) * 0.1))


def test_the_line_is_read_once_in_a_while_however_many_come():
    reads = []

    class Counting(MemoryRecordStore):
        def map_range(self, kind, key, after="", limit=1000):
            reads.append(kind)
            return super().map_range(kind, key, after, limit)

        def read_many(self, kind, keys, aged=False):
            reads.append(kind)
            return super().read_many(kind, keys, aged)

    one = admission(Store(Counting()))
    one.check(asked(0))
    reads.clear()
    for seed in range(1, 100):
        one.check(asked(seed))
    assert len(reads) <= 40, "one look, should this machine have been slow"


def test_while_the_line_is_read_nobody_waits_for_it_and_what_comes_and_goes_counts(store, monkeypatch):
    one, read, gate, in_time = admission(store), threading.Event(), threading.Event(), []
    one.check(asked(99))
    monkeypatch.setattr(looking_ahead, "LOOK_S", 0.0)
    line = store.line

    def slow(*given):
        found = line(*given)
        read.set()
        in_time.append(gate.wait(10))
        return found

    monkeypatch.setattr(store, "line", slow)
    looking = threading.Thread(target=one.place, args=(store.submit(asked(98)),))
    looking.start()
    assert read.wait(10)
    records = fill(store, 51)
    for record in records:
        one.entered(record)
    for record in records[:20]:
        one.ended(ended(record.accepted, "completed", 0.0))
    with pytest.raises(Overloaded):
        one.check(asked(99))
    monkeypatch.setattr(looking_ahead, "LOOK_S", 60.0)
    gate.set()
    looking.join(10)
    assert in_time == [True], "it was waited for"
    with pytest.raises(Overloaded):
        one.check(asked(99))
    for record in records[20:35]:
        one.ended(ended(record.accepted, "completed", 0.0))
    one.check(asked(99))


def test_a_service_refuses_what_its_queue_has_no_time_for_and_says_when_to_come_again():
    async def test() -> None:
        limits = ServiceLimits(most_work_s=1.0)
        async with served(Store(MemoryRecordStore()), Synthetic(fixed_s=0.2, largest=1), limits=limits) as service:
            service.maker.engine.pause()
            first, admitted = await service.submit(FIRST, CALLER, "first"), 1
            with pytest.raises(Overloaded) as refused:  # noqa: PT012
                while admitted < 50:
                    await service.submit({"prompt": "a red ring", "seed": admitted}, CALLER)
                    admitted += 1
            assert admitted == 2, "of 0.8 s each"
            assert refused.value.eta_s > 1.0
            assert refused.value.retry_after_s > 0
            sent_again = await service.submit(FIRST, CALLER, "first")
            assert sent_again.id == first.id, "what was accepted is accepted"
            service.maker.engine.resume()

    run(test)
