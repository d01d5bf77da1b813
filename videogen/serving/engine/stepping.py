"""The steps of a batch, by the fused sampler where whole generations fit it."""

from collections.abc import Mapping, Sequence

from videogen.serving.engine.lives import Live


def advance(lives: Sequence[Live], targets: Mapping[Live, int]) -> None:
    """Takes each to its step in `targets`. What has steps already goes on from there; a sampled one has frames too."""
    model, generations = lives[0].version.model, [live.generation for live in lives]
    whole = all(live.step == 0 and targets[live] >= live.generation.steps for live in lives)
    if whole and model.can_sample(generations):
        for live, frames in zip(lives, model.sample(generations), strict=True):
            live.frames, live.fused = frames, True
        return
    left = {live: targets[live] - live.step for live in lives}
    for count in set(left.values()) - {0}:
        model.step([live.generation for live in lives if left[live] == count], count)
