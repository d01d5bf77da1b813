"""The audit itself: what it must find, planted in a store and its journal."""

import hashlib
from dataclasses import replace

import pytest

from tests.faults.audit import Audit, audit
from tests.faults.journal import Journal, Note, notes
from tests.faults.worker import LIMITS
from tests.store.builders import accepted, memory_store
from videogen.store.records import RequestRecord
from videogen.store.store import Store

KILL = 100.0


@pytest.fixture
def store() -> Store:
    return memory_store(limits=LIMITS)


def told(record: RequestRecord, at: float = KILL - 50) -> list[Note]:
    return [Note(at, "accepted", {"id": record.id, "generation": record.generation})]


def answered(store: Store, mark: bytes = b"") -> tuple[RequestRecord, list[Note]]:
    """A request with its video, and what its workers noted."""
    record = store.submit(accepted())
    (claim,) = store.claim([record.id], "worker", 60.0)
    mp4 = record.generation.encode() + b" video" + mark
    video = store.publish(claim, mp4, {})
    facts = {"generation": record.generation, "digest": video.digest}
    return store.request(record.id), [*told(record), Note(KILL - 40, "published", facts)]


def judged(store: Store, found: list[Note], window_s: float | None = 1.0) -> Audit:
    return audit(store, found, [KILL], window_s)


def test_what_was_answered_is_answered(store):
    _, found = answered(store)
    assert judged(store, found) == Audit(1, 1, 0, 0, 0, 0.0, 0, 0, 0, 0, 0)


def test_a_request_that_is_gone_is_lost_and_its_window_is_measured(store):
    gone = replace(store.submit(accepted()), id="gone")
    assert judged(store, told(gone, KILL - 0.5)).lost == 1
    assert judged(store, told(gone, KILL - 0.5)).window_s == 0.5
    assert judged(store, told(gone, KILL + 1)).window_s > 1e9


def test_a_request_that_nobody_answers_is_lost(store):
    found = judged(store, told(store.submit(accepted())))
    assert found.lost == 1 and found.window_s > 1e9


def test_a_video_that_is_gone_or_anothers_is_no_answer(store):
    record, found = answered(store)
    assert judged(store, found).answered == 1
    store._videos._damaged(record.video, store.records.read("video", record.video), "a test says so")
    assert (judged(store, found).answered, judged(store, found).lost) == (0, 1)


def test_a_second_publication_is_one_too_many_but_for_what_a_kill_undid(store):
    record, found = answered(store)
    other = {"generation": record.generation, "digest": hashlib.sha256(b"another").hexdigest()}
    assert judged(store, [*found, Note(KILL - 60, "published", other)]).duplicates == 1
    late = judged(store, [*found[:1], Note(KILL - 0.2, "read", other)])
    assert (late.duplicates, late.undone, round(late.window_s, 3)) == (0, 1, 0.2)
    assert judged(store, [*found[:1], Note(KILL - 0.2, "read", other)], None).duplicates == 1


def test_an_end_that_did_not_last_has_risen(store):
    record = store.submit(accepted())
    end = {"id": record.id, "state": "cancelled", "video": ""}
    assert judged(store, [*told(record), Note(KILL - 10, "ended", end)]).resurrected == 1
    assert judged(store, [*told(record), Note(KILL - 0.1, "ended", end)]).resurrected == 0
    store.cancel(record.id)
    assert judged(store, [*told(record), Note(KILL - 10, "ended", end)]).resurrected == 0
    done = end | {"state": "done"}
    assert judged(store, [*told(record), Note(KILL - 10, "ended", done), Note(KILL + 9, "ended", end)]).resurrected == 1


def test_a_journal_is_read_up_to_where_its_process_died(tmp_path):
    journal = Journal(tmp_path / "a.jsonl")
    journal.note("accepted", id="1")
    with (tmp_path / "a.jsonl").open("a") as file:
        file.write('[1.0, "accep')
    assert [note.facts for note in notes(tmp_path)] == [{"id": "1"}]
