"""From a sealed batch to published videos, on a real engine and a real store; killed at each stage too."""

import subprocess
import sys
import time
from pathlib import Path
from shutil import copytree

import pytest

from tests import killed_drain
from tests.fixtures.random_models import write_random_tiny
from videogen.artifacts import Artifacts
from videogen.drain import DrainProgress, drain
from videogen.engines.builders import builder_for
from videogen.engines.cache import ensure_engine, load_engine
from videogen.errors import GenerationFailed, StoreConflict
from videogen.generate import Generator
from videogen.manifest import build_manifest
from videogen.media.mp4 import decode_mp4, encode_mp4
from videogen.models.spec import read_spec
from videogen.models.wan import WanModel
from videogen.requests import Request, accept
from videogen.store.store import Store

LABEL = "videogen-tiny@1"
PROMPT = "a small red ring moving up on a black background"


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory) -> Path:
    return write_random_tiny(tmp_path_factory.mktemp("model") / "tiny", steps=2)


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory, skeletons) -> Artifacts:
    root = tmp_path_factory.mktemp("artifacts")
    copytree(skeletons, root / skeletons.name)
    return Artifacts(str(root))


@pytest.fixture(scope="module")
def engine_key(artifacts, model_folder) -> str:
    digest = build_manifest(model_folder).digest
    return ensure_engine(artifacts, model_folder, digest, builder_for("onnxruntime"), "fp32").key.digest


@pytest.fixture
def generator(artifacts, model_folder, engine_key) -> Generator:
    return Generator(WanModel(model_folder, load_engine(artifacts, engine_key)))


@pytest.fixture
def store(tmp_path):
    with Store.open(f"embedded:{tmp_path / 'store'}") as opened:
        yield opened


def submit(store: Store, folder: Path, count: int, first: int = 0) -> list[str]:
    spec = read_spec(folder)
    seeds = range(first, first + count)
    accepted = [accept(Request(prompt=PROMPT, seed=seed), spec, "digest", label=LABEL) for seed in seeds]
    return [store.submit(one, source="test").id for one in accepted]


def test_every_request_gets_its_video_and_the_batch_ends(store, generator, model_folder):
    ids = submit(store, model_folder, 5)
    batch = store.seal_batch(ids, 600)
    told: list[DrainProgress] = []
    report = drain(store, batch.id, generator, holder="me", provenance={"engine": "this"}, on_progress=told.append)
    assert set(report.published) == set(ids) and not report.failed
    assert store.batch(batch.id).state == "finished"
    assert told[-1].published == told[-1].total == 5
    video = store.video(store.request(ids[3]).video)
    assert video.provenance["engine"] == "this" and video.provenance["seed"] == 3
    assert decode_mp4(store.read_video(video.digest)).shape == (16, 64, 64, 3)
    assert 0 <= report.overhead_share < 1
    assert {"lease", "generate", "text", "denoise", "decode", "mp4", "publish"} <= report.stages.keys()


def test_a_request_that_cannot_be_answered_fails_alone(store, generator, model_folder):
    ids = submit(store, model_folder, 4)
    batch = store.seal_batch(ids, 600)
    generate = generator.model.start

    def poisoned(requests):
        if any(request.request.seed == 2 for request in requests):
            raise GenerationFailed("the networks gave numbers that are not finite")
        return generate(requests)

    generator.model.start = poisoned
    report = drain(store, batch.id, generator, holder="me", provenance={})
    assert set(report.failed) == {ids[2]} and len(report.published) == 3
    failed = store.request(ids[2])
    assert failed.state == "failed" and "not finite" in str(failed.error)
    assert store.batch(batch.id).state == "finished"


def test_a_clip_that_cannot_be_encoded_is_tried_again_and_then_fails_alone(store, generator, model_folder):
    ids, tries = submit(store, model_folder, 3), []

    def encode(frames, fps):
        tries.append(1)
        if len(tries) == 2:
            raise OSError("No space left on device")
        return encode_mp4(frames, fps)

    batch = store.seal_batch(ids, 600)
    report = drain(store, batch.id, generator, holder="me", provenance={}, encode=encode)
    assert set(report.published) == set(ids) and len(tries) == 4


def test_two_drains_of_one_batch_do_not_both_work_on_it(store, generator, model_folder):
    batch = store.seal_batch(submit(store, model_folder, 2), 600)
    store.claim(batch.id, "somebody else", 60, 1)
    with pytest.raises(StoreConflict):
        drain(store, batch.id, generator, holder="me", provenance={})


def test_an_error_of_the_whole_gives_the_batch_back(store, generator, model_folder):
    ids = submit(store, model_folder, 2)
    batch = store.seal_batch(ids, 600)

    class Broken:
        def generate(self, requests, on_progress=None):
            raise RuntimeError("the device is gone")

    with pytest.raises(RuntimeError, match="the device is gone"):
        drain(store, batch.id, Broken(), holder="me", provenance={})
    assert {store.request(one).state for one in ids} == {"queued"}


@pytest.mark.slow
@pytest.mark.parametrize("stage", killed_drain.STAGES)
def test_killed_at_any_stage_every_request_is_answered_once(
    tmp_path, store, generator, artifacts, model_folder, engine_key, stage
):
    ids = submit(store, model_folder, 4)
    batch = store.seal_batch(ids, 600)
    command = [sys.executable, "-m", "tests.killed_drain", f"embedded:{tmp_path / 'store'}", str(artifacts.root)]
    killed = subprocess.Popen(
        [*command, str(model_folder), engine_key, batch.id, stage], stdout=subprocess.PIPE, text=True
    )
    assert killed.stdout is not None and killed.stdout.readline().strip() == stage
    before = {one: store.request(one).video for one in ids if store.request(one).state == "done"}
    killed.kill()
    killed.wait()

    deadline = time.monotonic() + 60
    while {store.request(one).state for one in ids} != {"done"}:
        assert time.monotonic() < deadline, [store.request(one) for one in ids]
        store.recover()
        if waiting := [record.id for record in store.waiting()]:
            again = store.seal_batch(waiting, 600)
            drain(store, again.id, generator, holder="the next one", provenance={})
        time.sleep(0.2)
    after = {one: store.request(one) for one in ids}
    assert all(after[one].video == video for one, video in before.items()), "what was published stays as it is"
    assert all(decode_mp4(store.read_video(record.video)).shape == (16, 64, 64, 3) for record in after.values())
    holders = [store.video(record.video).provenance["holder"] for record in after.values()]
    assert holders.count("the killed one") == len(before)
