"""What is asked otherwise while a video is made: from step 0 it gives what the change in mid-flight gave."""

import numpy as np
import pytest
import torch

from tests.fixtures.accepted import accepted
from videogen.engines.pytorch import TorchEngine
from videogen.generate import Clip, Generator
from videogen.models.wan import WanModel

torch.set_num_threads(1)
STEPS = 6
CHANGES = [
    {"prompt": "a blue square"},
    {"prompt": "a blue square", "guidance_scale": 4.0},
    {"negative_prompt": "green", "guidance_scale": 5.0},
    {"guidance_scale": 1.0},
]


@pytest.fixture(scope="module", params=["tiny_folder", "unipc_folder"])
def model(request):
    folder = request.getfixturevalue(request.param)
    return WanModel(folder, TorchEngine(folder, threads=1))


def asked(model, **fields):
    size = {} if model.spec.name.startswith("videogen") else {"width": 32, "height": 32, "num_frames": 5}
    return accepted(model.spec, "a red ball", 7, num_inference_steps=STEPS, guidance_scale=2.0, **size, **fields)


def finished(model, generation):
    """Latents: what random weights make of another text would hardly be seen in frames."""
    model.step([generation], count=STEPS)
    return generation.latents


def is_same(found, expected):
    return bool(np.abs(found - expected).max() < 1e-5)


def forked(model, generation, fields):
    """As the engine process does it: the text first, the step when it is known."""
    before = generation.request
    fresh = model.start([before.changed(0, fields)])[0]
    return model.fork(generation, fresh, before.changed(generation.step_index, fields))


@pytest.mark.parametrize("fields", CHANGES, ids=str)
@pytest.mark.parametrize("step", [0, 3])
def test_what_is_changed_in_mid_flight_is_what_is_made_anew(model, step, fields):
    [generation] = model.start([asked(model)])
    model.step([generation], count=step)
    fork = forked(model, generation, fields)
    assert fork.request.changes[-1].step == step and generation.request.changes == ()
    with_it = finished(model, fork)
    anew = finished(model, model.start([fork.request])[0])
    assert is_same(with_it, anew)
    old = finished(model, generation)  # the one it was made of goes on as it was
    assert is_same(old, finished(model, model.start([asked(model)])[0]))
    assert not is_same(old, with_it)


def test_a_change_of_a_change(model):
    [generation] = model.start([asked(model)])
    model.step([generation], count=2)
    once = forked(model, generation, {"prompt": "a blue square"})
    at_once = forked(model, once, {"guidance_scale": 1.0})
    model.step([once], count=2)
    twice = forked(model, once, {"prompt": "a green ring"})
    assert [change.step for change in twice.request.changes] == [2, 4]
    assert [change.step for change in at_once.request.changes] == [2, 2]
    for fork in (twice, at_once):
        anew = model.start([fork.request])[0]
        assert is_same(finished(model, fork), finished(model, anew))


def test_one_that_has_still_to_come_to_its_change_may_be_changed_again(model):
    """As where a job is made anew whose engine died: the newer change then begins where the older does."""
    [replayed] = model.start([asked(model).changed(4, {"prompt": "a blue square"})])
    model.step([replayed], count=2)
    fork = forked(model, replayed, {"guidance_scale": 1.0})
    assert [change.step for change in fork.request.changes] == [4, 4]
    anew = model.start([fork.request])[0]
    assert is_same(finished(model, fork), finished(model, anew))


def test_the_generator_makes_it_anew_beside_others(model):
    changed = asked(model).changed(2, {"prompt": "a blue square", "guidance_scale": 1.0})
    others = [asked(model), asked(model).model_copy(update={"id": "other"})]
    clips = list(Generator(model, batch_size=3).generate([others[0], changed, others[1]]))
    assert all(isinstance(clip, Clip) for clip in clips)
    [mine] = [clip.frames.astype(int) for clip in clips if clip.request is changed]
    [alone] = model.start([changed])
    model.step([alone], count=STEPS)
    assert np.abs(mine - model.finish([alone])[0]).max() <= 1
