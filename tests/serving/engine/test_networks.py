"""The engine process with real networks: its videos are those of the generator, however they were batched."""

import asyncio
import dataclasses
import shutil
from types import SimpleNamespace

import pytest

from tests.fixtures.random_models import write_random_tiny
from tests.serving.engine.running import engine, job
from videogen.device_leases import is_wanted, lease_device
from videogen.devices import cpu
from videogen.engines.builders import builder_for
from videogen.engines.cache import ensure_engine, load_engine
from videogen.errors import GenerationFailed
from videogen.generate import Clip, Generator
from videogen.manifest import build_manifest
from videogen.media.mp4 import decode_mp4, encode_mp4
from videogen.models.spec import read_spec
from videogen.models.wan import WanModel
from videogen.quality.psnr import psnr
from videogen.requests import Request, accept
from videogen.scheduling.costs import BUSY_NEAR, NEAR
from videogen.serving.engine import versions
from videogen.serving.engine.lives import failure
from videogen.serving.engine.stages import one_by_one
from videogen.serving.engine_process import EngineConfig, Failed, Finished, Progress, Stats, VersionToLoad

PROMPT = "a small red ring moving up on a black background"
GATE_DB = 30.0


@pytest.fixture(scope="module")
def tiny(tmp_path_factory, shared_artifacts):
    """A small model of four steps, its engine in the cache."""
    folder = write_random_tiny(tmp_path_factory.mktemp("model") / "tiny", steps=4)
    artifacts, digest = shared_artifacts, build_manifest(folder).digest
    key = ensure_engine(artifacts, folder, digest, builder_for("onnxruntime"), "fp32").key.digest
    config = EngineConfig(artifacts_url=artifacts.url, artifacts_cache=artifacts.url, streams=1, batch_max=4)
    version = VersionToLoad(digest, "videogen-tiny@1", str(folder), engine_key=key, precision="fp32")
    return SimpleNamespace(folder=folder, artifacts=artifacts, key=key, config=config, version=version)


def accepted(tiny, seed, **fields):
    return accept(
        Request(prompt=PROMPT, seed=seed, **fields), read_spec(tiny.folder), tiny.version.version_digest, label="tiny@1"
    )


def frames_of(tiny, requests):
    model = WanModel(tiny.folder, load_engine(tiny.artifacts, tiny.key))
    outcomes = list(Generator(model, fused=False).generate(requests))
    return {one.request.id: one.frames for one in outcomes if isinstance(one, Clip)}


def test_videos_are_the_generators_in_one_call_and_joined_by_others_at_other_steps(tiny):
    steps_of_seeds = [(0, 4), (1, 50), (2, 9), (0, 4), (4, 17), (5, 30)]
    requests = [accepted(tiny, seed, num_inference_steps=steps) for seed, steps in steps_of_seeds]
    expected = frames_of(tiny, requests)

    async def scenario():
        async with engine(tiny.config, tiny.version) as (process, told):
            process.run(job(requests[0]))
            await told.until(lambda: len(told.ends) == 1)
            process.run(job(requests[1]))
            await told.until(lambda: any(event.id == requests[1].id for event in told.of(Progress)))
            for one in requests[2:]:
                process.run(job(one))
            await told.until(lambda: len(told.ends) == len(requests))
        return told

    told = asyncio.run(scenario())
    for one in requests:
        finished = told.ends[one.id]
        assert isinstance(finished, Finished)
        assert psnr(decode_mp4(finished.mp4), decode_mp4(encode_mp4(expected[one.id], 8))) > GATE_DB
        assert finished.facts["engine"] == tiny.key
        assert finished.facts["precision"] == "fp32"
        assert set(finished.facts["seconds"]) >= {"text", "denoise", "mp4"}
    in_one_call, step_by_step = (told.ends[one.id].facts["fused"] for one in requests[:2])
    assert in_one_call and not step_by_step


def test_what_a_load_tells(tiny):
    async def scenario():
        async with engine(tiny.config) as (process, told):
            loaded = await process.load(dataclasses.replace(tiny.version, ungated=True))
            assert loaded.engine_key == tiny.key
            assert not loaded.built
            assert loaded.memory_after > loaded.memory_before > 0
            assert loaded.seconds > loaded.probe_s > 0
            assert loaded.step_s["1"] > 0
            one = accepted(tiny, 1)
            process.run(job(one))
            await told.until(lambda: told.ends)
            assert told.ends[one.id].facts["ungated"]
            with pytest.raises(Exception, match="does not exist"):
                await process.load(dataclasses.replace(tiny.version, folder="/nowhere", version_digest="e" * 64))
            two = accepted(tiny, 2)
            process.run(job(two))
            await told.until(lambda: two.id in told.ends)
            assert isinstance(told.ends[two.id], Finished)

    asyncio.run(scenario())


def test_a_prompt_that_cannot_be_read_fails_alone(tiny):
    async def scenario():
        async with engine(tiny.config, tiny.version) as (process, told):
            fine = [accepted(tiny, seed) for seed in range(3)]
            wrong = accepted(tiny, 9)
            other_size = wrong.model_copy(update={"request": wrong.request.model_copy(update={"width": 32})})
            for one in (fine[0], other_size, *fine[1:]):
                process.run(job(one))
            await told.until(lambda: len(told.ends) == 4)
            failed = told.ends[wrong.id]
            assert isinstance(failed, Failed)
            assert (failed.code, failed.retry) == ("invalid_request", False)
            assert all(isinstance(told.ends[one.id], Finished) for one in fine)

    asyncio.run(scenario())


def test_it_gives_the_device_up_for_who_wants_it_alone(tiny, tmp_path):
    async def scenario():
        config = dataclasses.replace(tiny.config, lease_folder=str(tmp_path))
        async with engine(config, tiny.version) as (process, told):
            one = accepted(tiny, 1)

            def alone() -> bool:
                with lease_device([cpu()], "exclusive", tmp_path, purpose="measure", wait_s=60):
                    asyncio.run_coroutine_threadsafe(_run(process, one), loop).result(10)
                    return one.id in told.ends

            loop = asyncio.get_running_loop()
            assert not await asyncio.to_thread(alone)
            await told.until(lambda: one.id in told.ends)
            assert any(stats.yielded for stats in told.of(Stats))
            assert not is_wanted(cpu(), tmp_path)

    asyncio.run(scenario())


async def _run(process, one):
    process.run(job(one))
    await asyncio.sleep(1.0)


def test_out_of_memory_is_named_whoever_says_it():
    for error in (MemoryError(), RuntimeError("CUDA error: out of memory"), GenerationFailed("std::bad_alloc")):
        found = failure("a", error)
        assert (found.code, found.retry) == ("out_of_memory", True)
    assert failure("a", GenerationFailed("not finite")).code == "generation_failed"


def test_who_fails_in_a_batch_fails_alone():
    done, failed = [], []

    def work(some):
        if 3 in some:
            raise RuntimeError("out of memory")
        done.extend(some)

    one_by_one(list(range(5)), work, lambda one, error: failed.append(one))  # ty: ignore[invalid-argument-type]
    assert (sorted(done), failed) == ([0, 1, 2, 4], [3])


@pytest.mark.parametrize(("most", "alone", "kept"), [(-1.0, True, False), (1.0, False, False), (1.0, True, True)])
def test_a_profile_is_kept_unless_something_else_kept_the_machine_busy(tiny, tmp_path, monkeypatch, most, alone, kept):
    monkeypatch.setattr(versions, "MOST", most)
    shutil.copytree(tiny.artifacts.root, tmp_path / "artifacts", ignore=shutil.ignore_patterns(versions.KIND))
    url = str(tmp_path / "artifacts")
    config = dataclasses.replace(tiny.config, artifacts_url=url, artifacts_cache=url, batch_max=2)
    loader = versions.Loader(config, cpu(), 1)
    loaded = loader.load(tiny.version, lambda text: None, alone=alone)
    assert loaded.tables[False].step  # used either way
    assert (tmp_path / "artifacts" / versions.KIND).exists() is kept
    assert {table.near for table in loaded.tables.values()} == {NEAR if kept else BUSY_NEAR}
    if kept:
        beside = loader.load(tiny.version, lambda text: None, alone=False)
        assert beside.tables[False].step == loaded.tables[False].step, "it was measured again, on a busy device"
