"""A real Redis, filled by plain commands as a TypeScript API would fill it, taken into our stores."""

import base64
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.fixtures.random_models import write_random_tiny
from tests.fixtures.servers import redis_server
from tests.store.builders import DIGEST, SPEC, drain_all
from videogen.artifacts import Artifacts
from videogen.cli import app
from videogen.errors import InvalidRequest, StoreUnavailable
from videogen.manifest import build_manifest
from videogen.requests import AcceptedRequest, accept, parse_request
from videogen.resolve import WEIGHTS
from videogen.store.moving.foreign_import import ForeignImport
from videogen.store.moving.foreign_redis import ForeignRedis, matched, read_layout
from videogen.store.primitives import RecordStore, SetPayload, Write
from videogen.store.records import Champion, StoreLimits
from videogen.store.store import Store

MP4S = [os.urandom(700_000 + n) for n in range(3)]
REQUEST = {"prompt": "a red ball", "numFrames": 16, "guidanceScale": 3, "userId": "studio"}
SECOND = {"prompt": "a robot", "num_frames": 16, "guidance_scale": 3, "seed": 1, "tenant": "studio"}
"""What the second finished video was asked for with, in our names."""
Shell = "redis.Redis"


@pytest.fixture
def theirs(tmp_path: Path) -> Iterator[tuple[str, Shell]]:
    import redis

    (tmp_path / "theirs").mkdir()
    with redis_server(tmp_path / "theirs") as (url, _):
        yield url, redis.Redis.from_url(url)


def fill(shell: Shell) -> None:
    """Finished videos, jobs that wait in BullMQ's ways, sessions, and what nobody takes over."""
    for number, mp4 in enumerate(MP4S):
        shell.set(f"video:h{number}", mp4, ex=86_400)
        shell.set(f"request:h{number}", json.dumps(REQUEST | {"model": "svd-xt", "seed": number, "prompt": "a robot"}))
    shell.set("request:failed", json.dumps(REQUEST))
    for number in range(1, 8):
        job = {"data": json.dumps(REQUEST | {"seed": 100 + number}), "timestamp": "1760000000000", "name": "generate"}
        shell.hset(f"bull:video:{number}", mapping=job)
    shell.lpush("bull:video:wait", "1", "2", "3")  # 1 was first and is at the right
    shell.zadd("bull:video:prioritized", {"5": 20, "4": 10})
    shell.lpush("bull:video:active", "6")
    shell.zadd("bull:video:completed", {"7": 1760000000000})
    shell.hset("bull:video:meta", "version", "bullmq:5")
    shell.xadd("bull:video:events", {"event": "waiting"})
    session = {"userId": "studio", "defaults": {"steps": 12, "negativePrompt": "blur"}, "editState": {"clip": [1, 2]},
               "recentVideos": ["h2", "h0", "gone"], "cookie": {"path": "/"}}  # fmt: skip
    shell.set("session:abc-123", json.dumps(session), ex=3600)
    shell.set("session:forever", json.dumps({"userId": "other"}))
    shell.set("ratelimit:studio", 17, ex=60)


def accepted(fields: dict) -> AcceptedRequest:
    return accept(parse_request(fields), SPEC, DIGEST, label="videogen-tiny@1")


def taking(url: str, store: Store, **changes: object) -> ForeignImport:
    layout = read_layout("typescript").model_copy(update=changes)
    return ForeignImport(ForeignRedis(url, layout), store, accepted, "typescript")


def test_everything_is_taken_in_once(theirs, records: RecordStore):
    url, shell = theirs
    fill(shell)
    before = {key: shell.dump(key) for key in shell.keys("*")}
    store = Store(records)
    found = taking(url, store).run()
    assert found.is_clean and (found.copied, found.same) == (3 + 6 + 2, 0)
    assert found.by_kind == {
        "video": 3, "waiting request": 6, "session": 2, "request without a video": 1, "job that does not wait": 1,
        "ignored key": 4,
    }  # fmt: skip
    again = taking(url, store).run()
    assert again.is_clean and (again.copied, again.same) == (0, 11)
    assert taking(url, store).verify().same == 11
    assert len(store.requests(limit=100)) == 9
    assert {key: shell.dump(key) for key in shell.keys("*")} == before


def test_videos_are_done_requests_under_a_fingerprint_of_their_own_model(theirs, records: RecordStore):
    url, shell = theirs
    fill(shell)
    store = Store(records)
    taking(url, store).run()
    done = {record.accepted.request.seed: record for record in store.requests(["done"])}
    assert {seed: store.read_video(record.video) for seed, record in done.items()} == dict(enumerate(MP4S))
    one = done[1]
    assert (
        one.label == "svd-xt (typescript)" and one.version_digest != DIGEST and one.accepted.request.tenant == "studio"
    )
    assert store.video(one.video).provenance == {"imported": "typescript", "hash": "h1", "model": "svd-xt"}
    ours = store.submit(accepted(SECOND))
    assert ours.state == "queued"  # what another model made is no answer


def test_videos_of_a_model_that_is_the_same_as_ours_answer_requests(theirs, records: RecordStore):
    url, shell = theirs
    fill(shell)
    store = Store(records)
    found = taking(url, store, models={"svd-xt": "videogen-tiny@champion"}).run()
    assert found.is_clean
    ours = store.submit(accepted(SECOND))
    assert ours.state == "done" and store.read_video(ours.video) == MP4S[1]


def test_a_damaged_video_of_ours_differs_and_stops_nothing(theirs, records: RecordStore):
    url, shell = theirs
    fill(shell)
    store = Store(records, StoreLimits(local_cache_bytes=0))
    taking(url, store).run()
    request = next(iter(store.requests(["done"])))
    records.write(Write("chunk", f"{request.video}/000000", (SetPayload(b"wrong"),)))
    found = taking(url, store).verify()
    assert (found.same, len(found.different)) == (10, 1)


def test_what_waits_is_made_in_its_order(theirs, records: RecordStore):
    url, shell = theirs
    fill(shell)
    store = Store(records)
    taking(url, store).run()
    waiting = store.waiting()
    assert [record.accepted.request.seed for record in waiting] == [106, 101, 102, 103, 104, 105]
    assert {record.accepted.request.tenant for record in waiting} == {"studio"}
    assert {(record.lane, record.source, record.accepted.request.guidance_scale) for record in waiting} == {
        ("batch", "typescript", 3.0)
    }
    drain_all(store)
    assert not taking(url, store).run().copied  # what was made here is not made again
    assert len(store.requests(["done"], limit=100)) == 9


def test_a_job_without_a_seed_is_one_request_however_often_it_is_taken_in(theirs, records: RecordStore):
    url, shell = theirs
    for number in (1, 2):
        shell.hset(f"bull:video:{number}", "data", json.dumps(REQUEST))
    shell.lpush("bull:video:wait", 1, 2)
    store = Store(records)
    for _ in range(3):
        taking(url, store).run()
    assert len({record.accepted.request.seed for record in store.waiting()}) == len(store.waiting()) == 2


def test_sessions_go_on_and_end_when_they_would_have(theirs, records: RecordStore):
    url, shell = theirs
    fill(shell)
    store = Store(records)
    taking(url, store).run()
    left = records.read("session", "studio/abc-123", aged=True).expires_in
    assert 3500 < left <= 3601
    session = store.sessions.get("studio", "abc-123")
    assert session.defaults == {"num_inference_steps": 12, "negative_prompt": "blur"}
    assert session.edit_state == {"clip": [1, 2]}
    assert session.videos == tuple(hashlib.sha256(MP4S[number]).hexdigest() for number in (2, 0))
    assert store.sessions.get("other", "forever").videos == ()
    store.sessions.end("studio", "abc-123")
    assert taking(url, store).run().copied == 0  # ended here, so it does not come back


def test_what_has_no_place_is_counted_and_named_and_takes_nothing_with_it(theirs, records: RecordStore):
    url, shell = theirs
    fill(shell)
    shell.set("video:orphan", MP4S[0])
    shell.set("video:empty", b"")
    shell.set("request:empty", json.dumps(REQUEST))
    shell.set("request:broken", "{no JSON")
    shell.set("video:broken", b"x")
    shell.hset("bull:video:20", "data", json.dumps(REQUEST | {"cameraMotion": "pan"}))
    shell.hset("bull:video:21", "data", json.dumps(REQUEST | {"numFrames": 17}))
    shell.lpush("bull:video:wait", "20", "21", "22")
    shell.set("session:list", "[1]")
    shell.hset("session:hash", "a", "b")
    shell.set("session:../x", "{}")
    shell.set("session:odd", json.dumps({"userId": "studio", "theme": "dark"}))
    shell.set("something:else", 1)
    store = Store(records)
    found = taking(url, store).run()
    assert found.copied == 11
    listed = "\n".join(found.damaged)
    for name, why in {
        "video orphan": "not there", "video empty": "not there, or empty", "video broken": "no JSON",
        "waiting request 20": "cameraMotion: no such field", "waiting request 21": "num_frames: got 17",
        "waiting request 22": "not there", "session list": "no object", "session hash": "another type",
        "session ../x": "no session", "session odd": "theme", "unknown key something:else": "no pattern",
    }.items():  # fmt: skip
        assert any(name.split(" ")[-1] in line and why in line for line in found.damaged), (name, listed)
    assert sum(count for kind, count in found.by_kind.items() if kind.endswith("without a place")) == 11


def test_a_layout_says_where_things_are(theirs, records: RecordStore, tmp_path):
    url, shell = theirs
    mine = tmp_path / "mine.toml"
    mine.write_text(
        '[videos]\nkeys = "cache:{hash}:mp4"\nencoding = "base64"\nrequest = "cache:{hash}:json"\n'
        '[queue]\nwaiting = ["q"]\njob = "q:{id}"\nfield = ""\nlane = "interactive"\n'
        '[fields]\ntext = "prompt"\nn = "seed"\n'
    )
    shell.set("cache:x:mp4", base64.b64encode(MP4S[0]))
    shell.set("cache:x:json", json.dumps({"text": "a dog", "n": 1}))
    shell.set("cache:y:mp4", "no base64!")
    shell.set("cache:y:json", json.dumps({"text": "a dog", "n": 2}))
    shell.zadd("q", {"a": 1})
    shell.set("q:a", json.dumps({"text": "a red ball"}))
    store = Store(records)
    found = ForeignImport(ForeignRedis(url, read_layout(str(mine))), store, accepted, "mine").run()
    assert found.copied == 2 and len(found.damaged) == 1 and "no base64" in found.damaged[0]
    assert [record.accepted.request.prompt for record in store.waiting("interactive")] == ["a red ball"]
    assert store.read_video(store.requests(["done"])[0].video) == MP4S[0]


def test_a_layout_of_sessions_alone_takes_sessions_alone(theirs, records: RecordStore, tmp_path):
    url, shell = theirs
    fill(shell)
    layout = read_layout("typescript").model_copy(update={"videos": None, "queue": None})
    store = Store(records)
    found = ForeignImport(ForeignRedis(url, layout), store, accepted, "typescript").run()
    assert found.copied == 2 and store.sessions.get("studio", "abc-123").videos == ()
    assert found.by_kind["unknown key without a place"] == len(found.damaged) > 10


def test_a_pattern_matches_only_its_keys():
    assert matched("video:{hash}", "video:a:b") == "a:b" and matched("video:{hash}", "video:") is None
    assert matched("rate.*", "rate.x") == "" and matched("rate.*", "ratex") is None


@pytest.mark.parametrize(
    ("text", "named"),
    [("[fields", "TOML"), ("[videos]\nkey = 'x'\n[fields]\n", "videos"), ("[queue]\n[fields]\n", "queue")],
)
def test_a_layout_that_is_wrong_is_named(tmp_path, text, named):
    (tmp_path / "mine.toml").write_text(text)
    with pytest.raises(InvalidRequest, match=named):
        read_layout(str(tmp_path / "mine.toml"))
    with pytest.raises(InvalidRequest, match="typescript"):
        read_layout("no such layout")


@pytest.mark.slow
def test_an_import_that_is_killed_is_finished_by_the_next(theirs, tmp_path, redis_url):
    url, shell = theirs
    for number in range(400):
        shell.set(f"video:{number}", os.urandom(20_000))
        shell.set(f"request:{number}", json.dumps(REQUEST | {"seed": number}))
    target = f"{redis_url}?namespace={tmp_path.name}"
    store = Store.open(target)
    command = "from videogen.cli import app; app()", "store", "migrate", "--layout", "typescript", "--from", url
    process = subprocess.Popen([sys.executable, "-c", *command, "--to", target], stderr=subprocess.DEVNULL)
    while len(store.requests(["done"], limit=100)) < 40:
        assert process.poll() is None
    process.kill()
    process.wait()
    importing = taking(url, store)
    found = importing.run()
    assert found.is_clean and found.same >= 40 and found.copied + found.same == 400
    assert importing.verify().same == 400
    store.close()


def test_the_command_takes_it_in_and_compares(theirs, tmp_path, monkeypatch):
    url, shell = theirs
    fill(shell)
    home = tmp_path / "home"
    monkeypatch.setenv("VIDEOGEN_HOME", str(home))
    model = write_random_tiny(tmp_path / "model")
    digest, target = build_manifest(model).digest, f"embedded:{home}/store"
    Artifacts(str(home / "artifacts")).build(WEIGHTS, digest, lambda to: shutil.copytree(model, to, dirs_exist_ok=True))
    with Store.open(target) as store:
        store.promote("videogen-tiny", Champion(digest, "videogen-tiny@1", {}), 0)
    for number in range(1, 8):
        shell.hset(f"bull:video:{number}", "data", json.dumps(REQUEST | {"seed": number, "prompt": "a zebra"}))
    command = ["store", "migrate", "--from", url, "--layout", "typescript", "--to", target, "--verify"]
    found = CliRunner().invoke(app, command)
    assert found.exit_code == 1, found.output  # it is no word that this model knows
    assert "5 taken in, 0 were there already" in found.stdout and "5 are the same, 0 differ" in found.stdout
    assert found.stderr.count("has no place here: waiting request") == 6 and "zebra" in found.stderr
    for number in range(1, 8):
        prompt = "a large red ring moving left on a dotted background"
        shell.hset(f"bull:video:{number}", "data", json.dumps(REQUEST | {"seed": number, "prompt": prompt}))
    found = CliRunner().invoke(app, command)
    assert found.exit_code == 0 and "6 taken in, 5 were there already" in found.stdout
    with Store.open(target) as store:
        assert {record.version_digest for record in store.waiting()} == {digest} and len(store.waiting()) == 6


def test_a_redis_that_does_not_answer_is_an_error(tmp_path):
    with pytest.raises(StoreUnavailable):
        ForeignRedis("redis://127.0.0.1:1", read_layout("typescript"))
    with pytest.raises(StoreUnavailable, match="redis://"):
        ForeignRedis("embedded:x", read_layout("typescript"))
