import dataclasses
from dataclasses import dataclass

import numpy as np
import pytest

from videogen.engines import select
from videogen.engines.builders import builder_for
from videogen.engines.cache import ensure_engine_of, load_engine
from videogen.engines.fidelity import (
    Fidelity,
    fidelity,
    fidelity_requests,
    reference_frames,
)  # fmt: skip
from videogen.engines.profile import LatencyPoint, LatencyProfile, profile_engine
from videogen.engines.pytorch import TorchEngine
from videogen.engines.select import Candidate, select_engine
from videogen.errors import ArtifactCorrupt, EngineUnavailable
from videogen.warming import serving_batch

PROMPTS, SEEDS = ("a red ball moving right", "a small star staying still"), (1, 2)


@pytest.fixture(scope="module")
def requests(folder):
    return fidelity_requests(folder, PROMPTS, SEEDS)


@pytest.fixture(scope="module")
def reference(folder, requests):
    return reference_frames(folder, requests)


@pytest.fixture(scope="module")
def ort_key(artifacts, graphs):
    return ensure_engine_of(artifacts, graphs, builder_for("onnxruntime"), "fp32").key.digest


@dataclass(frozen=True, slots=True)
class AtLeast:
    """Implements `Limits`."""

    mean_psnr: float

    def refusal(self, found: Fidelity) -> str | None:
        return None if found.mean_psnr >= self.mean_psnr else f"mean_psnr is below {self.mean_psnr:g}"


class Noisy(TorchEngine):
    """A reference whose denoiser is off by a little noise."""

    def __init__(self, folder, amount):
        super().__init__(folder, 1)
        self.amount, self.random = amount, np.random.default_rng(0)

    def run(self, network, inputs):
        found = super().run(network, inputs)
        if network == "denoiser":
            noise = self.random.standard_normal(found["velocity"].shape, dtype=np.float32)
            found["velocity"] = found["velocity"] + np.float32(self.amount) * noise
        return found


def test_an_exact_engine_is_near_and_a_noisy_one_is_not(artifacts, folder, requests, reference, ort_key):
    exact = fidelity(folder, load_engine(artifacts, ort_key), requests, reference)
    assert exact.worst_psnr > 50 and exact.worst_ssim > 0.999
    assert [(c.prompt, c.seed) for c in exact.clips] == list(zip(PROMPTS, SEEDS, strict=True))
    slightly, badly = (fidelity(folder, Noisy(folder, amount), requests, reference) for amount in (0.01, 1.0))
    assert exact.mean_psnr > slightly.mean_psnr > badly.mean_psnr


class WrongInBatches(TorchEngine):
    """A reference that spoils every clip but the first of a batch."""

    def __init__(self, folder):
        super().__init__(folder, 1)

    def run(self, network, inputs):
        found = super().run(network, inputs)
        if network == "denoiser":
            found["velocity"] = np.concatenate([found["velocity"][:1], np.zeros_like(found["velocity"][1:])])
        return found


def test_an_engine_that_is_right_alone_and_wrong_in_a_batch_is_found_out(folder, requests, reference):
    engine = WrongInBatches(folder)
    assert fidelity(folder, engine, requests, reference).worst_psnr > 50
    found = fidelity(folder, engine, requests, reference, batch_sizes=(2,))
    assert found.clips[0].psnr > 50 and found.clips[1].psnr < 30


def test_an_engine_that_is_right_in_one_call_and_wrong_step_by_step_is_found_out(
    artifacts, folder, requests, reference, ort_key, monkeypatch
):
    engine = load_engine(artifacts, ort_key)
    run = engine.run

    def still(network, inputs):
        return {name: of * (network != "denoiser") for name, of in run(network, inputs).items()}

    monkeypatch.setattr(engine, "run", still)
    found = fidelity(folder, engine, requests, reference)
    assert engine.sampler_sigmas and found.clips[0].psnr < 30 < 50 < found.clips[1].psnr


def test_the_fastest_that_passes_is_chosen_and_the_others_reasons_are_kept(
    artifacts, folder, digest, requests, reference, monkeypatch
):
    real = select.builder_for
    broken = type("Absent", (), {"graph_precision": {"fp32": "fp32"}, "target": "tensorrt"})()
    broken.version = lambda: (_ for _ in ()).throw(EngineUnavailable("not here"))
    broken.architecture = broken.version
    monkeypatch.setattr(select, "builder_for", lambda target: broken if target == "tensorrt" else real(target))
    candidates = (("onnxruntime", "fp32"), ("openvino", "fp32"), ("tensorrt", "fp32"))
    found = select_engine(
        artifacts,
        folder,
        digest,
        requests,
        limits=AtLeast(30),
        reference=reference,
        candidates=candidates,
        streams=2,
        rounds=2,
    )
    assert [c.target for c in found.candidates] == [target for target, _ in candidates]
    timed = [c for c in found.candidates if c.refusal is None]
    assert found.chosen == min(timed, key=lambda c: c.seconds_per_video) and len(timed) == 2
    assert found.candidates[2].refusal == "not here" and found.candidates[2].seconds_per_video is None
    assert all(c.mean_psnr > 50 and c.size > 0 and c.engine_key for c in timed)
    assert '"chosen"' in found.to_json()


def test_an_engine_that_misses_the_limit_never_wins(artifacts, folder, digest, requests, reference):
    with pytest.raises(EngineUnavailable, match="onnxruntime fp32: mean_psnr is below 101"):
        select_engine(
            artifacts, folder, digest, requests, reference=reference, limits=AtLeast(101),
            candidates=(("onnxruntime", "fp32"),), streams=1,
        )  # fmt: skip


def test_the_choice_goes_by_time_not_by_order():
    slow, fast = (Candidate("openvino", "fp32", seconds_per_video=s) for s in (2.0, 1.0))
    refused = Candidate("openvino", "bf16", refusal="no units")
    assert select._choose([slow, refused, fast], {}, 2).chosen is fast


def test_a_profile_holds_every_point_and_survives_its_file(artifacts, folder, ort_key):
    def load(threads, streams):
        return load_engine(artifacts, ort_key, threads, streams)

    seen = []
    profile = profile_engine(
        folder, ort_key, load, batches=(1, 4), streams=(1, 2), seconds_per_point=0.01, on_point=seen.append
    )
    assert list(profile.points) == seen and len(seen) == 2 * 2 * 4
    assert {(p.network, p.batch, p.streams) for p in seen} == {
        (n, b, s) for n in ("text_encoder", "denoiser", "decoder", "sampler") for b in (1, 4) for s in (1, 2)
    }
    assert all(0 < p.median <= p.p90 and p.calls >= 3 * p.streams for p in seen)
    assert not profile.exclusive and profile.load_seconds > 0 and profile.memory["peak"] >= profile.memory["load"] >= 0
    assert LatencyProfile.from_json(profile.to_json()) == profile
    assert profile.best() in {(b, s) for b in (1, 4) for s in (1, 2)}
    with pytest.raises(ArtifactCorrupt):
        LatencyProfile.from_json("{}")


def test_a_profile_says_where_batching_pays():
    def points(network, medians):
        return [LatencyPoint(network, b, s, t, t, 3) for (b, s), t in medians.items()]

    flat = {(1, 1): 1.0, (4, 1): 1.2, (1, 2): 1.9, (4, 2): 2.3}
    tiny = dict.fromkeys(flat, 0.001)
    profile = LatencyProfile(
        "k", "openvino", "fp32", "cpu", "x", 1, True, num_inference_steps=4, guided=False, load_seconds=1.0, memory={},
        points=(*points("denoiser", flat), *points("decoder", tiny), *points("text_encoder", tiny)),
    )  # fmt: skip
    assert profile.seconds("denoiser", 2) == pytest.approx(1 + 0.2 / 3)
    assert profile.seconds("denoiser", 8) == pytest.approx(2.4)
    assert profile.best() == (4, 2) and serving_batch(profile) == 4
    assert serving_batch(dataclasses.replace(profile, exclusive=False)) == 1
    assert profile.seconds_per_video(1, 1) == pytest.approx(4 * 1.0 + 0.002)
    guided = dataclasses.replace(profile, guided=True)
    assert guided.seconds_per_video(2, 1) == pytest.approx((4 * 1.2 + 0.002) / 2)
    with pytest.raises(KeyError, match="3 streams"):
        profile.seconds("denoiser", 1, 3)


def test_fidelity_requests_are_at_the_models_defaults(requests, folder):
    assert [(r.request.prompt, r.request.seed, r.request.num_inference_steps) for r in requests] == [
        (prompt, seed, 4) for prompt, seed in zip(PROMPTS, SEEDS, strict=True)
    ]
