"""The Wan family: diffusers' WanTransformer3DModel with Wan's own text encoder and autoencoder, or with tiny's."""

import copy
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from videogen.errors import GenerationFailed, InvalidRequest
from videogen.models.family import Conditioning, Generation
from videogen.models.loading import component_classes, latent_layout, load_tokenizer, scheduler_config
from videogen.models.prompt_cache import PromptCache
from videogen.models.schedule import Schedule, euler_schedule, euler_step
from videogen.models.spec import read_spec

if TYPE_CHECKING:
    from videogen.engines.base import Engine
    from videogen.requests import AcceptedRequest, Request


class WanModel:
    """A Wan model folder, run by `engine`. Implements `VideoModel`."""

    def __init__(self, folder: Path | str, engine: "Engine") -> None:
        self.spec, self.engine = read_spec(folder), engine
        self.tokenizer, self.layout = load_tokenizer(folder), latent_layout(folder)
        self._scheduler, self._config = component_classes(folder)["scheduler"][1], scheduler_config(folder)
        self._prompts = PromptCache(self._encode)

    def start(self, requests: Sequence["AcceptedRequest"]) -> list[Generation]:
        for accepted in requests:
            self._check_shape(accepted)
        asked = [request for accepted in requests for _, request in _by_step(accepted)]
        texts = [request.prompt for request in asked]
        texts += [request.negative_prompt for request in asked if request.guidance_scale > 1]
        embeds = self._prompts.encode(texts)
        return [self._start(accepted, embeds) for accepted in requests]

    def _check_shape(self, accepted: "AcceptedRequest") -> None:
        shape, request = self.engine.shape, accepted.request
        for field in ("num_frames", "height", "width") if shape else ():
            if getattr(request, field) != getattr(shape, field):
                allowed = f"{getattr(shape, field)}, which this engine is built for"
                raise InvalidRequest(field, getattr(request, field), allowed)

    def _start(self, accepted: "AcceptedRequest", embeds: dict[str, np.ndarray]) -> Generation:
        request = accepted.request
        schedule, solver = self._schedule(request.num_inference_steps)
        shape = self.layout.shape(request.num_frames, request.height, request.width)
        return Generation(
            request=accepted,
            conditioning=tuple(_conditioning(step, asked, embeds) for step, asked in _by_step(accepted)),
            latents=draw_noise(shape, request.seed),
            schedule=schedule,
            solver=solver,
        )

    def _schedule(self, steps: int) -> tuple[Schedule, Any]:
        if self._scheduler == "FlowMatchEulerDiscreteScheduler":
            return euler_schedule(self._config, steps, self.spec.sigma_schedule), None
        from diffusers import UniPCMultistepScheduler

        solver = UniPCMultistepScheduler.from_config(self._config)
        solver.set_timesteps(steps)
        return Schedule(solver.sigmas.numpy(), solver.timesteps.numpy()), solver

    def _encode(self, texts: Sequence[str]) -> np.ndarray:
        ids, mask = self.tokenizer(texts)
        return self.engine.run("text_encoder", {"input_ids": ids, "attention_mask": mask})["embeds"]

    def fork(self, generation: Generation, fresh: Generation, accepted: "AcceptedRequest") -> Generation:
        last = dataclasses.replace(fresh.conditioning[-1], step=accepted.changes[-1].step)
        solver = copy.deepcopy(generation.solver)
        conditioning = (*generation.conditioning, last)
        return dataclasses.replace(generation, request=accepted, conditioning=conditioning, solver=solver)

    def step(self, generations: Sequence[Generation], count: int = 1) -> None:
        for _ in range(count):
            live = [generation for generation in generations if not generation.is_done]
            if not live:
                return
            for generation, velocity in zip(live, self._velocities(live), strict=True):
                _advance(generation, velocity)

    def _velocities(self, live: Sequence[Generation]) -> list[np.ndarray]:
        current = {id(generation): generation.current for generation in live}
        guided = [generation for generation in live if current[id(generation)].negative is not None]
        rows = [*live, *guided]
        embeds = [current[id(g)].embeds for g in live] + [current[id(g)].negative for g in guided]
        inputs = {
            "latents": np.stack([g.latents for g in rows]),
            "timestep": np.array([g.schedule.timesteps[g.step_index] for g in rows], dtype=np.float32),
            "embeds": np.stack(embeds),
        }
        found = self._run("denoiser", inputs)["velocity"]
        velocities, unguided = list(found[: len(live)]), dict(zip(map(id, guided), found[len(live) :], strict=True))
        for index, generation in enumerate(live):
            if (base := unguided.get(id(generation))) is not None:
                scale = np.float32(current[id(generation)].guidance_scale)
                velocities[index] = base + scale * (velocities[index] - base)
        return velocities

    def can_sample(self, generations: Sequence[Generation]) -> bool:
        if not self.engine.sampler_sigmas:
            return False
        sigmas = np.array(self.engine.sampler_sigmas, dtype=np.float32)
        return all(
            g.conditioning[-1] is g.current
            and g.current.negative is None
            and g.step_index == 0
            and g.solver is None
            and np.array_equal(g.schedule.sigmas, sigmas)
            for g in generations
        )

    def sample(self, generations: Sequence[Generation]) -> list[np.ndarray]:
        noise, embeds = np.stack([g.latents for g in generations]), np.stack([g.current.embeds for g in generations])
        found = self._run("sampler", {"noise": noise, "embeds": embeds})
        frames = _checked_frames(generations, found)
        for generation, latents in zip(generations, found["latents"], strict=True):
            generation.latents = generation.estimate = latents
            generation.step_index = generation.steps
        return frames

    def preview(self, generation: Generation) -> np.ndarray:
        latents = generation.latents if generation.estimate is None else generation.estimate
        return self._run("decoder", {"latents": latents[None]})["frames"][0]

    def finish(self, generations: Sequence[Generation]) -> list[np.ndarray]:
        return _checked_frames(
            generations, self._run("decoder", {"latents": np.stack([g.latents for g in generations])})
        )

    def _run(self, network: str, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """One engine call, or as few as the engine's largest batch allows."""
        rows, most = len(next(iter(inputs.values()))), self.engine.shape.batch_max if self.engine.shape else None
        if most is None or rows <= most:
            return self.engine.run(network, inputs)
        parts = [
            self.engine.run(network, {name: value[first : first + most] for name, value in inputs.items()})
            for first in range(0, rows, most)
        ]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _by_step(accepted: "AcceptedRequest") -> "list[tuple[int, Request]]":
    """What is asked, each from its step on."""
    return [(0, accepted.at(0)), *((one.step, accepted.at(one.step)) for one in accepted.changes if one.step)]


def _conditioning(step: int, asked: "Request", embeds: dict[str, np.ndarray]) -> Conditioning:
    scale = asked.guidance_scale or 1.0
    negative = embeds[asked.negative_prompt] if scale > 1 else None
    return Conditioning(step, embeds[asked.prompt], negative, scale)


def draw_noise(shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Standard normal float32, the numbers that diffusers draws on a CPU for this seed."""
    import torch

    return torch.randn(shape, generator=torch.Generator("cpu").manual_seed(seed), dtype=torch.float32).numpy()


def _advance(generation: Generation, velocity: np.ndarray) -> None:
    index, sigmas = generation.step_index, generation.schedule.sigmas
    generation.estimate = generation.latents - sigmas[index] * velocity
    if generation.solver is None:
        generation.latents = euler_step(generation.latents, velocity, sigmas[index], sigmas[index + 1])
    else:
        import torch

        sample, found = (torch.from_numpy(array)[None] for array in (generation.latents, velocity))
        timestep = generation.solver.timesteps[index]
        generation.latents = generation.solver.step(found, timestep, sample, return_dict=False)[0][0].numpy()
    generation.step_index = index + 1


def _checked_frames(generations: Sequence[Generation], found: dict[str, np.ndarray]) -> list[np.ndarray]:
    for generation, level in zip(generations, found["level"], strict=True):
        if not np.isfinite(level):
            raise GenerationFailed(f"request {generation.request.id}: the networks gave numbers that are not finite")
    return list(found["frames"])
