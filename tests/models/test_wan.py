import numpy as np
import pytest
import torch

from tests.fixtures.accepted import accepted
from videogen.engines.pytorch import TorchEngine
from videogen.errors import GenerationFailed, UnknownWord
from videogen.models.wan import WanModel

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def tiny(tiny_folder):
    return WanModel(tiny_folder, TorchEngine(tiny_folder, threads=1))


def generate(model, requests):
    generations = model.start(requests)
    model.step(generations, count=100)
    return model.finish(generations)


def diffusers_frames(folder, prompt, seed, steps, guidance, negative=None):
    from diffusers import WanPipeline

    pipeline = WanPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    found = pipeline(
        prompt, negative, height=32, width=32, num_frames=5, num_inference_steps=steps, guidance_scale=guidance,
        generator=torch.Generator().manual_seed(seed), output_type="np",
    )  # fmt: skip
    return (found.frames[0] * 255).round().astype(np.uint8)


@pytest.mark.parametrize("guidance", [1.0, 4.0])
@pytest.mark.parametrize("folder", ["wan_folder", "unipc_folder"])
def test_unmodified_wan_gives_the_frames_of_diffusers_own_pipeline(folder, guidance, request):
    folder = request.getfixturevalue(folder)
    model = WanModel(folder, TorchEngine(folder, threads=1))
    size = {"width": 32, "height": 32, "num_frames": 5, "num_inference_steps": 3, "guidance_scale": guidance}
    ours = generate(model, [accepted(model.spec, "a red ball", 7, negative_prompt="bad", **size)])[0]
    theirs = diffusers_frames(folder, "a red ball", 7, 3, guidance, "bad")
    assert ours.shape == theirs.shape == (5, 32, 32, 3)
    assert np.abs(ours.astype(int) - theirs).max() <= 1


@pytest.mark.parametrize("guidance", [1.0, 2.5])
def test_a_video_does_not_depend_on_its_batch(tiny, guidance):
    requests = [accepted(tiny.spec, "a red ball moving", seed, guidance_scale=guidance) for seed in range(8)]
    together = generate(tiny, requests)
    for request, frames in zip(requests, together, strict=True):
        assert np.abs(generate(tiny, [request])[0].astype(int) - frames).max() <= 1
    assert np.abs(together[0].astype(int) - together[1]).max() > 10


def test_generations_at_different_steps_share_a_batch(tiny):
    first, second = (accepted(tiny.spec, seed=s, num_inference_steps=n) for s, n in ((1, 6), (2, 4)))
    alone = [generate(tiny, [request])[0] for request in (first, second)]
    [early] = tiny.start([first])
    tiny.step([early], count=3)
    [late] = tiny.start([second])
    tiny.step([early, late], count=100)
    assert early.is_done and late.is_done and early.step_index == 6
    for frames, expected in zip(tiny.finish([early, late]), alone, strict=True):
        assert np.abs(frames.astype(int) - expected).max() <= 1


def test_guidance_of_one_calls_the_denoiser_once_and_above_twice(tiny):
    rows = []
    run = tiny.engine.run

    class Counting:
        sampler_sigmas, shape = (), None

        def run(self, network, inputs):
            rows.append((network, len(next(iter(inputs.values())))))
            return run(network, inputs)

    model = WanModel.__new__(WanModel)
    model.__dict__ = tiny.__dict__ | {"engine": Counting()}
    model.step(
        tiny.start([accepted(tiny.spec, seed=1, guidance_scale=1.0), accepted(tiny.spec, seed=2, guidance_scale=3.0)])
    )
    assert rows == [("denoiser", 3)]


def test_guidance_follows_its_formula(tiny):
    """Ho and Salimans 2022, equation 6, in the form of Wan: unconditional + scale * (conditional - unconditional)."""
    [generation] = tiny.start([accepted(tiny.spec, "a red ball", 5, guidance_scale=3.0, negative_prompt="blue")])
    start = generation.latents
    timestep = generation.schedule.timesteps[:1]

    def velocity(embeds):
        inputs = {"latents": start[None], "timestep": timestep, "embeds": embeds[None]}
        return tiny.engine.run("denoiser", inputs)["velocity"][0]

    base, wanted = velocity(generation.current.negative), velocity(generation.current.embeds)
    tiny.step([generation])
    sigmas = generation.schedule.sigmas
    expected = start + (sigmas[1] - sigmas[0]) * (base + 3.0 * (wanted - base))
    np.testing.assert_allclose(generation.latents, expected, atol=1e-5)


def test_preview_nears_the_finished_video(tiny):
    [generation] = tiny.start([accepted(tiny.spec, seed=3, num_inference_steps=8)])
    previews = [tiny.preview(generation)]
    while not generation.is_done:
        tiny.step([generation])
        previews.append(tiny.preview(generation))
    final = tiny.finish([generation])[0].astype(float)
    distances = [np.abs(preview - final).mean() for preview in previews]
    assert distances[-1] == 0 and distances[0] > distances[4] > distances[7]


def test_the_fused_sampler_gives_the_video_of_its_steps(tiny, tiny_folder):
    schedule = tiny.start([accepted(tiny.spec)])[0].schedule
    fused = WanModel(tiny_folder, TorchEngine(tiny_folder, sigmas=schedule.sigmas, timesteps=schedule.timesteps))
    requests = [accepted(tiny.spec, seed=seed) for seed in (1, 2)]
    generations = fused.start(requests)
    assert fused.can_sample(generations)
    for frames, expected in zip(fused.sample(generations), generate(tiny, requests), strict=True):
        assert np.abs(frames.astype(int) - expected).max() <= 1
    assert all(generation.is_done for generation in generations)
    assert not fused.can_sample(fused.start([accepted(tiny.spec, num_inference_steps=5)]))
    assert not fused.can_sample(fused.start([accepted(tiny.spec, guidance_scale=2.0)]))


def test_numbers_that_are_not_finite_fail_by_name_and_never_become_a_black_video(tiny):
    [generation] = tiny.start([accepted(tiny.spec, seed=4)])
    generation.latents = np.full_like(generation.latents, np.nan)
    with pytest.raises(GenerationFailed, match=generation.request.id):
        tiny.finish([generation])


def test_an_unknown_word_is_named(tiny):
    with pytest.raises(UnknownWord, match="zebra"):
        tiny.start([accepted(tiny.spec, "a red zebra")])
