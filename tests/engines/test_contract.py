"""What every engine must do, for each that runs on a CPU."""

import threading

import numpy as np
import pytest

from tests.fixtures.accepted import accepted
from videogen.engines.base import ENGINE_FILE, read_report
from videogen.engines.builders import CPU_CANDIDATES, builder_for
from videogen.engines.cache import ensure_engine_of, fused_schedule, load_engine
from videogen.engines.device import cpu_architecture
from videogen.engines.networks import OUTPUTS
from videogen.engines.pytorch import TorchEngine
from videogen.errors import EngineError, EngineUnavailable, InvalidRequest
from videogen.generate import Clip, Generator
from videogen.models.wan import WanModel

TOLERANCE = {"fp32": 2e-4, "bf16": 0.15}
LEVELS = {"fp32": 1, "bf16": 16}


@pytest.fixture(scope="session")
def reference(folder):
    schedule = fused_schedule(folder)
    return TorchEngine(folder, 1, sigmas=schedule.sigmas, timesteps=schedule.timesteps)


@pytest.fixture(scope="session", params=CPU_CANDIDATES, ids="-".join)
def stored(request, artifacts, graphs):
    target, precision = request.param
    try:
        return ensure_engine_of(artifacts, graphs, builder_for(target), precision)
    except EngineUnavailable as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def engine(artifacts, stored):
    return load_engine(artifacts, stored.key.digest, threads=1, streams=2)


def inputs(batch):
    random = np.random.default_rng(batch)
    latents = random.standard_normal((batch, 8, 4, 8, 8), dtype=np.float32)
    embeds = random.standard_normal((batch, 5, 32), dtype=np.float32)
    ids = random.integers(1, 60, (batch, 20))
    mask = (np.arange(20) < random.integers(1, 20, (batch, 1))).astype(np.int64)
    timestep = random.uniform(1, 999, batch).astype(np.float32)
    return {
        "text_encoder": {"input_ids": ids * mask, "attention_mask": mask},
        "denoiser": {"latents": latents, "timestep": timestep, "embeds": embeds},
        "decoder": {"latents": latents},
        "sampler": {"noise": latents, "embeds": embeds},
    }


@pytest.mark.parametrize("batch", [1, 2, 5, 16])
def test_every_network_gives_what_torch_gives_at_every_batch(engine, reference, batch):
    assert engine.networks == reference.networks == tuple(OUTPUTS)
    for network, given in inputs(batch).items():
        found, expected = engine.run(network, given), reference.run(network, given)
        assert list(found) == list(OUTPUTS[network])
        for name, array in found.items():
            assert array.dtype == expected[name].dtype and array.shape == expected[name].shape
            allowed = LEVELS[engine.precision] if name == "frames" else TOLERANCE[engine.precision]
            difference = np.abs(array.astype(np.float64) - expected[name])
            assert difference.max() <= allowed, (network, name)


def test_two_threads_at_once_get_their_own_answers(engine):
    given = [{k: v[i : i + 1] for k, v in inputs(16)["denoiser"].items()} for i in range(16)]
    alone = [engine.run("denoiser", row)["velocity"] for row in given]
    found = [None] * 16

    def work(rows):
        for row in rows:
            found[row] = engine.run("denoiser", given[row])["velocity"]

    threads = [threading.Thread(target=work, args=(range(start, 16, 3),)) for start in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one, other in zip(found, alone, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_the_whole_video_at_the_same_seed_is_torchs(engine, reference, folder):
    ours, theirs = WanModel(folder, engine), WanModel(folder, reference)
    requests = [accepted(ours.spec, seed=s, guidance_scale=g) for s, g in ((1, 1.0), (2, 3.0))]
    expected = {clip.request.id: clip for clip in Generator(theirs, fused=False).generate(requests)}
    for clip in Generator(ours).generate(requests):
        assert isinstance(clip, Clip) and clip.timings.fused == (clip.request.request.guidance_scale == 1)
        difference = np.abs(clip.frames.astype(int) - expected[clip.request.id].frames)
        assert difference.max() <= 3 * LEVELS[engine.precision]


def test_its_report_says_what_was_built(stored, engine):
    report = read_report(stored.path)
    assert (report.target, report.precision) == (stored.key.builder, stored.key.precision)
    assert report.architecture == cpu_architecture() and report.builder_version.split()[0] in report.target
    assert report.size == sum(
        p.stat().st_size for p in stored.path.iterdir() if p.name not in (ENGINE_FILE, "manifest.json")
    )
    assert report.seconds > 0 and all(report.layers[name] > 10 for name in OUTPUTS)
    assert all(sum(kinds.values()) == report.layers[name] for name, kinds in report.layer_kinds.items())
    assert len(engine.sampler_sigmas) == 5 and engine.shape.batch_max == 16


def test_a_request_of_another_size_is_refused_by_name(engine, folder):
    model = WanModel(folder, engine)
    odd = accepted(model.spec)
    odd = odd.model_copy(update={"request": odd.request.model_copy(update={"height": 32})})
    with pytest.raises(InvalidRequest, match="height: got 32; allowed: 64, which this engine is built for"):
        model.start([odd])


def test_more_rows_than_the_engine_takes_are_split(engine, folder):
    model, calls = WanModel(folder, engine), []
    run = engine.run

    class Watched:
        shape, sampler_sigmas = engine.shape, engine.sampler_sigmas

        def run(self, network, given):
            calls.append(len(next(iter(given.values()))))
            return run(network, given)

    model.engine = Watched()
    frames = model.sample(model.start([accepted(model.spec, seed=s) for s in range(18)]))
    assert len(frames) == 18 and calls == [1, 16, 2]


def test_wrong_inputs_are_an_engine_error(engine):
    with pytest.raises(EngineError, match="denoiser"):
        engine.run("denoiser", inputs(2)["denoiser"] | {"embeds": np.zeros((2, 5, 7), np.float32)})


def test_an_engine_for_another_cpu_says_so_and_does_not_run(stored, tmp_path):
    text = (stored.path / ENGINE_FILE).read_text()
    (tmp_path / ENGINE_FILE).write_text(text.replace(cpu_architecture(), "riscv64"))
    with pytest.raises(EngineUnavailable, match="built for riscv64; this machine is"):
        builder_for(stored.key.builder).load(tmp_path)
