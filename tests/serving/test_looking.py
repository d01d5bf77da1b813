"""A caller's jobs: how they are listed, and where one stands that waits."""

from collections import Counter

import pytest

from tests.store.builders import DIGEST, accepted
from videogen.serving import looking
from videogen.serving.admission import Admission, Pace, ServiceLimits
from videogen.serving.jobs import Caller
from videogen.serving.looking import Looking
from videogen.store.backends.memory import MemoryRecordStore
from videogen.store.servers import Server
from videogen.store.store import Store

ALICE = Caller("alice", "a", frozenset({"user"}))
PER_SECOND = 10.0
STEP_S = 0.05


class Counted(MemoryRecordStore):
    def __init__(self):
        super().__init__()
        self.reads = Counter()

    def read_many(self, kind, keys, aged=False):
        self.reads[kind] += 1
        return super().read_many(kind, keys, aged)


@pytest.fixture
def store():
    return Store(Counted())


@pytest.fixture
def looks(store):
    pace = Pace(Server("me", frozenset({DIGEST}), PER_SECOND), STEP_S)
    return Looking(store, Admission(store, ServiceLimits(), lambda accepted: pace), price_per_hour=3600.0)


def ask(store, seed, tenant="alice", **fields):
    return store.submit(accepted(seed, lane="interactive", tenant=tenant, **fields)).id


def make(store, job_id):
    (claim,) = store.claim([job_id], "w", 60.0)
    store.publish(claim, f"video of {job_id}".encode(), claim.facts() | {"device_seconds": 2.0})


def listed(looks, after=None, limit=20, newest_first=True):
    return looks.page(ALICE, (), after, limit, newest_first)


def test_a_callers_jobs_are_listed_page_by_page_in_both_orders(store, looks):
    made = []
    for seed in range(7):
        made.append(ask(store, seed))
        ask(store, seed, tenant="bob")
    looks.hide(made.pop(3), ALICE)
    made.sort()
    for newest_first, wanted in ((True, made[::-1]), (False, made)):
        found, after = [], None
        while True:
            page = listed(looks, after, 2, newest_first)
            found += [job.id for job in page.data]
            if not page.has_more:
                break
            after = found[-1]
        assert found == wanted
        assert not page.is_cut


def test_a_page_is_a_few_reads_however_many_jobs_it_shows(store, looks):
    ids = sorted(ask(store, seed) for seed in range(60))  # ids of one millisecond sort by chance
    for job_id in ids[:30]:
        make(store, job_id)
    store.records.reads.clear()
    page = listed(looks, limit=60)
    assert [job.id for job in page.data] == ids[::-1]
    done = {job.id: job for job in page.data if job.status == "completed"}
    assert set(done) == set(ids[:30])
    assert all(job.video.provenance["request_id"] == job.id for job in done.values())
    assert {job.usage.cost_usd for job in done.values()} == {2.0}
    reads = store.records.reads
    assert (reads["request"], reads["video"], reads["hidden-request"]) == (1, 1, 1)


def test_a_list_says_when_older_ones_are_left_out(store, looks, monkeypatch):
    ids = sorted(ask(store, seed) for seed in range(5))
    monkeypatch.setattr(looking, "MOST_LISTED", 3)
    page = listed(looks)
    assert [job.id for job in page.data] == ids[:1:-1]
    assert page.is_cut
    assert not page.has_more


def test_what_waits_is_told_its_place_and_time_without_a_look_at_the_queue_for_each(store, looks):
    ids = [ask(store, seed, tenant=f"t{seed}") for seed in range(40)]
    records = [store.request(one) for one in ids]
    jobs = looks.jobs(records, ids)
    order = sorted(jobs, key=lambda job: job.queue_position)
    assert [job.queue_position for job in order] == list(range(40))
    assert order[20].eta_seconds == pytest.approx(21 / PER_SECOND + STEP_S / 2)
    assert looks.job(records[0], waits=False).queue_position is None
