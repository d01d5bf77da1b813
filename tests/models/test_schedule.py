import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler

from videogen.errors import ArtifactRefused
from videogen.models.schedule import euler_schedule, euler_step


@pytest.mark.parametrize("shift", [1.0, 3.0, 5.0])
@pytest.mark.parametrize("steps", [1, 4, 20, 50])
@pytest.mark.parametrize("kind", ["uniform", "scheduler"])
def test_schedule_and_steps_equal_diffusers_to_the_last_bit(shift, steps, kind):
    theirs = FlowMatchEulerDiscreteScheduler(shift=shift)
    theirs.set_timesteps(steps, sigmas=np.linspace(1, 1 / steps, steps).tolist() if kind == "uniform" else None)
    ours = euler_schedule(theirs.config, steps, kind)
    assert np.array_equal(ours.sigmas, theirs.sigmas.numpy())
    assert np.array_equal(ours.timesteps, theirs.timesteps.numpy())

    random = np.random.default_rng(0)
    latents = random.standard_normal((3, 5, 7), dtype=np.float32)
    expected = torch.from_numpy(latents)
    for index, timestep in enumerate(theirs.timesteps):
        velocity = random.standard_normal((3, 5, 7), dtype=np.float32)
        expected = theirs.step(torch.from_numpy(velocity), timestep, expected).prev_sample
        latents = euler_step(latents, velocity, ours.sigmas[index], ours.sigmas[index + 1])
        assert np.array_equal(latents, expected.numpy())


@pytest.mark.parametrize("option", ["use_dynamic_shifting", "use_karras_sigmas", "stochastic_sampling"])
def test_an_option_that_would_be_ignored_is_refused(option):
    with pytest.raises(ArtifactRefused, match=option):
        euler_schedule({option: True}, 4, "uniform")
