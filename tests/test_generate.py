import threading

import numpy as np
import pytest
import torch

from tests.fixtures.accepted import accepted
from tests.fixtures.random_models import write_random_tiny
from videogen.engines.pytorch import TorchEngine
from videogen.errors import GenerationFailed, UnknownWord
from videogen.generate import Clip, Failure, Generator
from videogen.models.wan import WanModel


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_random_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def model(folder):
    return WanModel(folder, TorchEngine(folder, threads=1))


class Streams:
    """An engine, called from several streams; `spoil` changes what its networks give."""

    def __init__(self, engine, streams, spoil=lambda network, inputs, found: found):
        self.engine, self.streams, self.spoil = engine, streams, spoil
        self.shape, self.sampler_sigmas, self.threads_seen = None, engine.sampler_sigmas, set()

    def run(self, network, inputs):
        self.threads_seen.add(threading.get_ident())
        assert not torch.is_inference_mode_enabled()
        return self.spoil(network, inputs, self.engine.run(network, inputs))


def with_engine(model, engine):
    other = WanModel.__new__(WanModel)
    other.__dict__ = model.__dict__ | {"engine": engine}
    return other


def outcomes(generator, requests):
    return {outcome.request.id: outcome for outcome in generator.generate(requests)}


@pytest.mark.parametrize(("streams", "batch_size"), [(1, 1), (1, 8), (2, 1), (2, 3)])
def test_every_request_gets_the_video_it_would_get_alone(model, streams, batch_size):
    requests = [
        accepted(model.spec, seed=s, num_inference_steps=2 + s % 2, guidance_scale=1.0 + s % 3) for s in range(7)
    ]
    engine = Streams(model.engine, streams)
    found = outcomes(Generator(with_engine(model, engine), batch_size), requests)
    assert len(found) == 7 and len(engine.threads_seen) <= streams
    for request in requests:
        [alone] = Generator(model).generate([request])
        clip = found[request.id]
        assert isinstance(clip, Clip) and clip.frames.shape == (16, 64, 64, 3) and clip.frames.dtype == np.uint8
        assert np.abs(clip.frames.astype(int) - alone.frames).max() <= 1


def test_timings_account_for_the_stages(model):
    clips = list(Generator(model, batch_size=4).generate([accepted(model.spec, seed=s) for s in range(4)]))
    assert all(clip.timings.batch == 4 and not clip.timings.fused for clip in clips)
    assert all(0 < t < 60 for clip in clips for t in (clip.timings.denoise, clip.timings.decode, clip.timings.total))


def test_a_prompt_the_model_cannot_read_fails_alone(model):
    good = [accepted(model.spec, seed=s) for s in range(3)]
    bad = accepted(model.spec, "a red zebra")
    found = outcomes(Generator(model, batch_size=8), [good[0], bad, *good[1:]])
    assert isinstance(found[bad.id], Failure) and isinstance(found[bad.id].error, UnknownWord)
    assert all(isinstance(found[request.id], Clip) for request in good)


@pytest.mark.parametrize("stage", ["denoiser", "decoder"])
@pytest.mark.parametrize("poison", ["nan", "exception"])
def test_a_poisoned_request_never_takes_its_batch_with_it(model, stage, poison):
    requests = [accepted(model.spec, seed=s, num_inference_steps=3) for s in range(4)]
    mark = model.start([requests[2]])[0].latents
    poisoned = {"latents": mark}

    def spoil(network, inputs, found):
        rows = [
            i for i, row in enumerate(inputs.get("latents", ())) if np.allclose(row, poisoned["latents"], atol=1e-4)
        ]
        if network != stage or not rows:
            return found
        if poison == "exception":
            raise ZeroDivisionError("the engine stumbled")
        name = "velocity" if stage == "denoiser" else "level"
        found[name] = found[name].copy()
        found[name][rows] = np.nan
        return found

    if stage == "decoder":
        [generation] = model.start([requests[2]])
        model.step([generation], count=100)
        poisoned["latents"] = generation.latents
    found = outcomes(Generator(with_engine(model, Streams(model.engine, 1, spoil)), batch_size=4), requests)
    failure = found.pop(requests[2].id)
    assert isinstance(failure, Failure) and isinstance(failure.error, GenerationFailed)
    assert ("ZeroDivisionError: the engine stumbled" in str(failure.error)) == (poison == "exception")
    for request in requests[:2] + requests[3:]:
        [alone] = Generator(model).generate([request])
        assert np.abs(found[request.id].frames.astype(int) - alone.frames).max() <= 1


def test_progress_is_told_after_every_step(model):
    told = []
    request = accepted(model.spec, num_inference_steps=5)
    list(Generator(model).generate([request], lambda batch, share: told.append((batch[0].id, round(share, 2)))))
    assert told == [(request.id, share) for share in (0.2, 0.4, 0.6, 0.8, 1.0)]


def test_closing_the_iterator_ends_the_work(model):
    engine = Streams(model.engine, 2)
    requests = [accepted(model.spec, seed=s, num_inference_steps=2) for s in range(30)]
    calls = []
    engine.spoil = lambda network, inputs, found: (calls.append(network), found)[1]
    outcomes_so_far = Generator(with_engine(model, engine)).generate(requests)
    next(outcomes_so_far)
    outcomes_so_far.close()
    made = calls.count("decoder")
    assert made <= 8
    assert not any(t.name.startswith("videogen-stream") for t in threading.enumerate())


def test_the_fused_sampler_is_used_where_it_fits_and_only_there(model, folder):
    schedule = model.start([accepted(model.spec)])[0].schedule
    fused = WanModel(folder, TorchEngine(folder, threads=1, sigmas=schedule.sigmas, timesteps=schedule.timesteps))
    fits, other = accepted(model.spec, seed=1), accepted(model.spec, seed=1, num_inference_steps=3)
    found = outcomes(Generator(fused), [fits, other])
    assert found[fits.id].timings.fused and not found[other.id].timings.fused
    assert not next(Generator(fused, fused=False).generate([fits])).timings.fused
    [plain] = Generator(model).generate([fits])
    assert np.abs(found[fits.id].frames.astype(int) - plain.frames).max() <= 1
