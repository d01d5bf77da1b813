import copy
import dataclasses
import multiprocessing
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.store.builders import Clock
from videogen.errors import InvalidRequest, RecordDamaged, RecordNotFound, StoreConflict
from videogen.store import contention, sessions
from videogen.store.backends.catalog import open_records
from videogen.store.backends.memory import MemoryRecordStore
from videogen.store.primitives import Set, Write
from videogen.store.sessions import RECENT, Session, Sessions

KEEP_S = 100.0


@pytest.fixture
def opened(plain):
    return Sessions(plain, KEEP_S)


class Forgetful(MemoryRecordStore):
    """Remembers every version of a record, and after a restart holds one that has not run out: any but the latest."""

    def __init__(self, clock):
        super().__init__(clock)
        self.versions = []

    def _write(self, write):
        written = super()._write(write)
        if written is not None:
            self.versions.append(((write.kind, write.key), copy.deepcopy(self._records[write.kind, write.key])))
        return written

    def restart(self):
        for name, version in self.versions[:-1]:
            if self._stored(*name) is None and not self._is_expired(version):
                self._records[name] = copy.deepcopy(version)


def calls(opened, tenant, session_id):
    return (
        lambda: opened.get(tenant, session_id),
        lambda: opened.update(tenant, session_id, defaults={"fps": 8}),
        lambda: opened.update(tenant, session_id, expected_revision=1, edit_state="x"),
        lambda: opened.add_video(tenant, session_id, "v"),
    )


def is_gone(opened, tenant, session_id):
    for call in calls(opened, tenant, session_id):
        with pytest.raises(RecordNotFound, match="there is no session"):
            call()
    return True


def test_a_session_is_read_back_by_any_replica(plain, opened):
    made = opened.create("t", {"fps": 8, "negative_prompt": "ü\u2028", "metadata": {"a": [1, None]}, "none": None})
    expected = {"fps": 8, "negative_prompt": "ü\u2028", "metadata": {"a": [1, None]}}
    assert made == Session("t", made.id, 1, expected, None, ())
    changed = opened.update("t", made.id, edit_state={"cut": [1, 2.5], "by": None})
    opened.add_video("t", made.id, "v1")
    found = Sessions(plain, KEEP_S).get("t", made.id)
    assert found == dataclasses.replace(changed, videos=("v1",))
    assert (found.revision, found.defaults, found.edit_state) == (2, expected, {"cut": [1, 2.5], "by": None})


def test_what_is_given_back_is_what_will_be_read(opened):
    made = opened.create("t", {"size": (1, 2), 3: "three"})
    changed = opened.update("t", made.id, edit_state=(1, {2: ()}))
    assert made.defaults == {"size": [1, 2], "3": "three"}
    assert opened.get("t", made.id) == changed and changed.edit_state == [1, {"2": []}]


def test_an_update_changes_what_it_names_and_nothing_else(opened):
    made = opened.create("t", {"fps": 8, "width": 64, "height": 64})
    opened.update("t", made.id, edit_state="cut")
    found = opened.update("t", made.id, defaults={"fps": 16, "width": None, "seed": 1})
    assert (found.defaults, found.edit_state) == ({"fps": 16, "height": 64, "seed": 1}, "cut")
    assert opened.update("t", made.id).defaults == found.defaults
    assert opened.update("t", made.id, edit_state=None).edit_state is None


def test_a_stale_revision_is_refused_and_says_where_the_session_stands(opened):
    made = opened.create("t", {"fps": 8})
    now = opened.update("t", made.id, expected_revision=1, defaults={"fps": 16})
    assert now.revision == 2
    for stale in (0, 1, 3):
        with pytest.raises(StoreConflict, match=f"session {made.id} stands at revision 2, not at {stale}"):
            opened.update("t", made.id, expected_revision=stale, defaults={"fps": 24}, edit_state="lost")
    assert opened.get("t", made.id) == now


def test_a_video_that_comes_meanwhile_makes_no_revision_stale(opened):
    made = opened.create("t", {})
    opened.add_video("t", made.id, "v")
    assert opened.update("t", made.id, expected_revision=1, edit_state="x").videos == ("v",)


@given(st.lists(st.sampled_from([f"v{i}" for i in range(70)]), max_size=150))
def test_recent_videos_are_the_newest_and_each_is_there_once(digests):
    opened = Sessions(MemoryRecordStore(Clock()), KEEP_S)
    made = opened.create("t", {})
    for digest in digests:
        opened.add_video("t", made.id, digest)
    assert opened.get("t", made.id).videos == tuple(dict.fromkeys(reversed(digests)))[:RECENT]


def test_old_videos_leave_the_record(opened, plain):
    made = opened.create("t", {})
    for i in range(RECENT + 20):
        opened.add_video("t", made.id, f"v{i}")
    kept = plain.map_range("session", f"t/{made.id}")
    assert [video for _, video in kept] == [f"v{i}" for i in range(20, RECENT + 20)]


@pytest.mark.parametrize(
    "use",
    [
        lambda opened, one: opened.get("t", one),
        lambda opened, one: opened.update("t", one),
        lambda opened, one: opened.add_video("t", one, "v"),
    ],
)
def test_a_session_lives_while_it_is_used(opened, clock, use):
    made = opened.create("t", {"fps": 8})
    for _ in range(5):
        clock.pass_(KEEP_S - 1)
        use(opened, made.id)
    assert opened.get("t", made.id).defaults == {"fps": 8}
    clock.pass_(KEEP_S)
    assert is_gone(opened, "t", made.id)


def test_a_refused_update_changes_no_lifetime(opened, clock):
    made = opened.create("t", {})
    clock.pass_(KEEP_S - 1)
    with pytest.raises(StoreConflict):
        opened.update("t", made.id, expected_revision=9)
    clock.pass_(2)
    assert is_gone(opened, "t", made.id)


def test_one_tenants_session_is_nothing_to_another(opened):
    made = opened.create("a", {"prompt": "secret"})
    assert is_gone(opened, "b", made.id)
    opened.end("b", made.id)
    assert opened.get("a", made.id).defaults == {"prompt": "secret"}
    assert opened.create("a", {}).id != made.id


@pytest.mark.parametrize(("tenant", "session_id"), [("a", "b/{}"), ("a/b/..", "{}"), ("", "a/b/{}"), ("a/b", "{}\0")])
def test_no_other_spelling_leads_to_a_session(opened, tenant, session_id):
    made = opened.create("a/b", {})
    assert is_gone(opened, tenant, session_id.format(made.id)) and opened.get("a/b", made.id)


@pytest.mark.parametrize("session_id", ["", "never-was", "ü", "x" * 10_000, "a b", "\ud800", "\n"])
def test_an_id_that_never_was_is_not_found(opened, session_id):
    assert is_gone(opened, "t", session_id)


def test_a_session_that_ended_is_gone_and_ending_it_again_is_no_error(opened, clock):
    made = opened.create("t", {"prompt": "secret"})
    opened.add_video("t", made.id, "v")
    for _ in range(2):
        opened.end("t", made.id)
        assert is_gone(opened, "t", made.id)
    opened.end("t", "never-was")
    assert is_gone(opened, "t", "never-was")


def test_an_end_leaves_nothing_of_what_the_session_held_and_in_the_end_nothing_at_all(opened, plain, clock):
    made = opened.create("t", {"prompt": "secret"})
    opened.update("t", made.id, edit_state="secret"), opened.add_video("t", made.id, "secret")
    opened.end("t", made.id)
    key = f"t/{made.id}"
    assert "secret" not in repr(plain.read("session", key)) and plain.map_range("session", key) == []
    clock.pass_(KEEP_S)
    assert plain.purge() == 1


@pytest.mark.parametrize("passed", [0, 1, KEEP_S / 2, KEEP_S - 1, KEEP_S, KEEP_S + 1, 2 * KEEP_S])
def test_no_restart_of_a_forgetful_store_brings_an_ended_session_back(clock, passed):
    records = Forgetful(clock)
    opened = Sessions(records, KEEP_S)
    made = opened.create("t", {"prompt": "secret"})
    clock.pass_(KEEP_S - 1)
    opened.get("t", made.id)
    opened.end("t", made.id)
    clock.pass_(passed)
    records.restart()
    assert is_gone(opened, "t", made.id)


def test_whoever_reads_before_the_end_writes_nothing_after_it(clock):
    class Ending(MemoryRecordStore):
        ending = None

        def map_range(self, *asked):
            found, (ending, self.ending) = super().map_range(*asked), (self.ending, None)
            if ending is not None:
                ending()
            return found

    records = Ending(clock)
    opened = Sessions(records, KEEP_S)
    for call in range(1, 4):
        made = opened.create("t", {})
        records.ending = lambda made=made: opened.end("t", made.id)
        with pytest.raises(RecordNotFound):
            calls(opened, "t", made.id)[call]()
        assert is_gone(opened, "t", made.id)


@pytest.mark.parametrize(
    "wrong", [{"x": {1}}, {"x": float("nan")}, {"x": b"y"}, {"x": "y" * 20_000}, ["fps"], "fps", 5, []]
)
def test_defaults_that_no_record_can_hold_are_refused(opened, wrong):
    made = opened.create("t", {"fps": 8})
    for call in (lambda: opened.create("t", wrong), lambda: opened.update("t", made.id, defaults=wrong)):
        with pytest.raises(InvalidRequest, match=r"defaults: got .*; allowed: ") as caught:
            call()
        assert caught.value.field == "defaults"
    assert opened.get("t", made.id) == made


def test_defaults_that_grow_too_large_together_are_refused(opened):
    made = opened.create("t", {"a": "x" * 10_000})
    with pytest.raises(InvalidRequest, match="at most 16,384 characters of JSON"):
        opened.update("t", made.id, defaults={"b": "x" * 10_000})
    opened.update("t", made.id, defaults={"a": None, "b": "x" * 10_000})


def test_an_edit_state_that_no_record_can_hold_is_refused(opened):
    made, deep = opened.create("t", {}), []
    for _ in range(100_000):
        deep = [deep]
    for wrong in ({1, 2}, float("inf"), "x" * 300_000, deep):
        with pytest.raises(InvalidRequest, match=r"edit_state: got .*; allowed: "):
            opened.update("t", made.id, edit_state=wrong)
    assert opened.get("t", made.id) == made


@pytest.mark.parametrize("keep_s", [0, -1, float("nan"), float("inf")])
def test_a_lifetime_that_means_nothing_is_refused(plain, keep_s):
    with pytest.raises(InvalidRequest, match=r"keep_s: got .*; allowed: seconds above 0"):
        Sessions(plain, keep_s)


@pytest.mark.parametrize(
    "damage",
    [
        Set("state", 5), Set("defaults", "{"), Set("defaults", "[]"), Set("defaults", None),
        Set("edit_state", None), Set("revision", "x"),
    ],
)  # fmt: skip
def test_a_damaged_session_says_so_and_can_be_ended(opened, plain, damage):
    made = opened.create("t", {})
    plain.write(Write("session", f"t/{made.id}", (damage,)))
    for call in calls(opened, "t", made.id)[:2]:
        with pytest.raises(RecordDamaged):
            call()
    opened.end("t", made.id)
    assert is_gone(opened, "t", made.id)


def test_an_id_that_was_drawn_before_takes_no_session_over(opened, monkeypatch):
    made = opened.create("t", {"fps": 8})
    monkeypatch.setattr(sessions.secrets, "token_urlsafe", lambda size: made.id)
    with pytest.raises(StoreConflict, match="exists already"):
        opened.create("t", {})
    assert opened.get("t", made.id) == made


# Competing for real, on every backend.


def together(*calls):
    threads = [threading.Thread(target=call) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_changes_to_different_defaults_are_merged_and_no_video_is_lost(records):
    opened = Sessions(records, KEEP_S)
    made = opened.create("t", {"all": "same"})

    def change(name):
        for n in range(10):
            opened.update("t", made.id, defaults={name: n, f"{name}{n}": n})

    def see(name):
        for n in range(10):
            opened.add_video("t", made.id, f"{name}{n}")

    together(*(lambda name=name: change(name) for name in "abc"), *(lambda name=name: see(name) for name in "xy"))
    found = opened.get("t", made.id)
    each = {f"{name}{n}": n for name in "abc" for n in range(10)}
    assert found.defaults == {"all": "same", "a": 9, "b": 9, "c": 9} | each and found.revision == 31
    for name in "xy":
        assert [video for video in found.videos if video[0] == name] == [f"{name}{n}" for n in range(9, -1, -1)]
    assert len(found.videos) == 20


def test_of_many_who_insist_on_a_revision_one_wins(records):
    opened = Sessions(records, KEEP_S)
    made = opened.create("t", {})
    won, refused = [], []

    def edit(n):
        try:
            won.append(opened.update("t", made.id, expected_revision=1, edit_state=n))
        except StoreConflict as error:
            refused.append(str(error))

    together(*(lambda n=n: edit(n) for n in range(5)))
    assert won == [opened.get("t", made.id)] and len(refused) == 4
    assert all("stands at revision 2, not at 1" in error for error in refused)


def count_up(url, session_id, connection):
    """Raises a number in the edit state, again for as long as somebody else was first."""
    records, done = open_records(url), 0
    opened = Sessions(records, KEEP_S)
    while done < 10:
        now = opened.get("t", session_id)
        try:
            opened.update("t", session_id, now.revision, edit_state=now.edit_state + 1)
        except StoreConflict:
            continue
        done += 1
    records.close()
    connection.send(done)


@pytest.mark.parametrize("backend_url", ["embedded", "redis", "aerospike"], indirect=True)
def test_processes_that_insist_on_revisions_lose_no_step(records, backend_url):
    opened, context, readers = Sessions(records, KEEP_S), multiprocessing.get_context("fork"), []
    made = opened.create("t", {})
    opened.update("t", made.id, edit_state=0)
    for _ in range(3):
        reader, writer = context.Pipe(duplex=False)
        context.Process(target=count_up, args=(backend_url, made.id, writer)).start()
        writer.close()
        readers.append(reader)
    assert [reader.recv() for reader in readers] == [10] * 3
    found = opened.get("t", made.id)
    assert (found.edit_state, found.revision) == (30, 32)


def test_a_session_slides_runs_out_and_ends(records):
    counts_in_seconds = type(records).__name__ == "AerospikeRecordStore"  # and is up to one late
    keep_s = 3.0 if counts_in_seconds else 1.0
    opened = Sessions(records, keep_s)
    used, left, ended = (opened.create("t", {"n": n}).id for n in range(3))
    opened.add_video("t", ended, "v"), opened.add_video("t", used, "v")
    opened.end("t", ended)
    for _ in range(3):
        time.sleep(keep_s / 2)
        assert opened.get("t", used).videos == ("v",)
    assert is_gone(opened, "t", left) and is_gone(opened, "t", ended)


def test_whoever_is_always_overtaken_gives_up_with_a_clear_error(clock, monkeypatch):
    class Overtaken(MemoryRecordStore):
        def map_range(self, kind, key, *page):
            found = super().map_range(kind, key, *page)
            count = self.read(kind, key).count("revision")
            self.write(Write(kind, key, (Set("revision", count + 1), Set("videos", count + 1))))
            return found

    opened = Sessions(Overtaken(clock), KEEP_S)
    made = opened.create("t", {})
    monkeypatch.setattr(contention, "LONGEST_PAUSE_S", 0.0)
    monkeypatch.setattr(contention, "TRIES", 5)
    for call in (calls(opened, "t", made.id)[1], calls(opened, "t", made.id)[3]):
        with pytest.raises(StoreConflict, match=f"session {made.id}: others changed it first, 5 times in a row"):
            call()
