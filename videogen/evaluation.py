"""What a model version is asked, and what it answered: held-out prompts with fixed seeds, judged clip by clip.

Every version gets the same prompts with the same seeds, so two versions can be compared in pairs. The prompts name
combinations that training never saw.
"""

import dataclasses
import hashlib
import json
import random
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from videogen.errors import ArtifactCorrupt
from videogen.models.spec import ModelSpec
from videogen.requests import AcceptedRequest, Request, accept
from videogen.world.grammar import Attributes, caption, combinations, is_held_out

if TYPE_CHECKING:
    import numpy as np

    from videogen.artifacts import Artifacts
    from videogen.generate import Clip, Failure, Generator
    from videogen.quality.agreement import Agreement
    from videogen.resolve import ResolvedModel

PROTOCOL = "held-out captions 1"
"""Changes whenever the prompts, the seeds or the judging change: old answers are then no longer compared with."""

EVALUATION_FILE = "evaluation.json"
CLIPS = "clips"
KIND = "evaluations"
DEFAULT_COUNT = 128
"""Enough to tell a version that agrees with 70 % of the prompts from the floor in `gates.toml`."""


@dataclass(frozen=True, slots=True)
class EvaluationPrompt:
    """One question: the prompt, the attributes it names, and the seed of the noise."""

    index: int
    attributes: Attributes
    prompt: str
    seed: int


@dataclass(frozen=True, slots=True)
class Answer:
    """One clip beside its question. `seen` is what the oracle saw, None where it saw nothing it could name.

    `video` is the clip's path within the evaluation's folder; it is None, and `error` says why, where there is none.
    `seconds` is what it took of its stream's time.
    """

    prompt: str
    seed: int
    wanted: dict[str, str]
    seen: dict[str, str | None]
    seconds: float
    video: str | None = None
    error: str | None = None

    def verdicts(self) -> list[tuple[str, bool]]:
        """Each word that the prompt wants and whether the clip shows it; if not, with what the oracle saw instead."""
        found = [(word, self.seen.get(name)) for name, word in self.wanted.items()]
        return [
            (word, True) if seen == word else (f"{word}, seen as {seen or 'nothing it knows'}", False)
            for word, seen in found
        ]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The answers of one engine of one version, in the order of the prompts."""

    label: str
    version_digest: str
    engine_key: str
    target: str
    precision: str
    protocol: str
    seconds: float
    answers: tuple[Answer, ...]
    batch_size: int = 1

    def agreement(self) -> "Agreement":
        """How often the clips show what their prompts name; a failed clip shows nothing."""
        from videogen.quality.agreement import agreement, pair

        return agreement(pair(answer.wanted, answer.seen) for answer in self.answers)

    def to_json(self) -> str:
        """The text of `evaluation.json`."""
        return json.dumps(dataclasses.asdict(self), indent=1) + "\n"


def evaluation_prompts(count: int, protocol: str = PROTOCOL) -> list[EvaluationPrompt]:
    """The first `count` questions of the protocol: held-out combinations in a fixed random order, varied wordings.

    A longer list starts with the shorter one. Beyond the held-out combinations they come again in other words.
    """
    rng = random.Random(protocol)
    held_out = [attributes for attributes in combinations() if is_held_out(attributes)]
    rng.shuffle(held_out)
    prompts = []
    for index in range(count):
        attributes = held_out[index % len(held_out)]
        prompts.append(EvaluationPrompt(index, attributes, caption(attributes, rng), rng.getrandbits(31)))
    return prompts


def evaluation_key(candidate: "Candidate", count: int, protocol: str = PROTOCOL) -> str:
    """The address of an evaluation among the artifacts: same weights, engine, batch size, questions: same address."""
    identity = (
        candidate.model.version_digest,
        candidate.engine_key,
        f"batch {candidate.batch_size}",
        str(count),
        protocol,
    )
    return hashlib.sha256("\n".join(identity).encode()).hexdigest()


def questions(
    prompts: Sequence[EvaluationPrompt], spec: ModelSpec, version_digest: str, label: str, words: Iterable[str] | None
) -> list[AcceptedRequest]:
    """The prompts as requests to one version, all else left to its spec.

    Raises UnknownWord if the model knows too few words to be asked.
    """
    words = None if words is None else frozenset(words)
    wishes = [Request(model=label, prompt=prompt.prompt, seed=prompt.seed) for prompt in prompts]
    return [accept(wish, spec, version_digest, words, label=label) for wish in wishes]


def answer(
    folder: Path,
    generator: "Generator",
    prompts: Sequence[EvaluationPrompt],
    requests: Sequence[AcceptedRequest],
    on_answer: Callable[[int], None] = lambda done: None,
) -> tuple[tuple[Answer, ...], float]:
    """Generates and judges every request, in batches as the generator likes; the MP4s go to `folder`/clips.

    Returns the answers in the order of `prompts`, and the seconds of wall time. `on_answer` hears how many are done.
    """
    by_id = {request.id: prompt for request, prompt in zip(requests, prompts, strict=True)}
    (folder / CLIPS).mkdir(parents=True, exist_ok=True)
    answers: dict[int, Answer] = {}
    start = time.perf_counter()
    for outcome in generator.generate(requests):
        prompt = by_id[outcome.request.id]
        answers[prompt.index] = _judged(folder, prompt, outcome)
        on_answer(len(answers))
    return tuple(answers[prompt.index] for prompt in prompts), time.perf_counter() - start


def _judged(folder: Path, prompt: EvaluationPrompt, outcome: "Clip | Failure") -> Answer:
    from videogen.generate import Failure
    from videogen.media.mp4 import encode_mp4
    from videogen.quality.oracle import judge

    wanted = dataclasses.asdict(prompt.attributes)
    if isinstance(outcome, Failure):
        return Answer(prompt.prompt, prompt.seed, wanted, {}, 0.0, error=str(outcome.error))
    video = f"{CLIPS}/{prompt.index:03d}.mp4"
    (folder / video).write_bytes(encode_mp4(outcome.frames, outcome.request.request.fps or 1))
    seen = dataclasses.asdict(judge(outcome.frames))
    return Answer(prompt.prompt, prompt.seed, wanted, seen, outcome.timings.total, video)


@dataclass(frozen=True, slots=True)
class Candidate:
    """One engine of one version: what is evaluated, `batch_size` requests to a call."""

    model: "ResolvedModel"
    engine_key: str
    target: str
    precision: str
    batch_size: int = 1


def ensure_evaluation(
    artifacts: "Artifacts",
    candidate: Candidate,
    prompts: Sequence[EvaluationPrompt],
    open_generator: "Callable[[], Generator]",
    on_answer: Callable[[int], None] = lambda done: None,
) -> tuple[Path, Evaluation, bool]:
    """The evaluation of a candidate, made now if it is not there: its folder, its content, whether it was made now."""
    model = candidate.model

    def fill(folder: Path) -> None:
        requests = questions(prompts, model.spec, model.version_digest, model.label, model.vocabulary)
        answers, seconds = answer(folder, open_generator(), prompts, requests, on_answer)
        of = (model.label, model.version_digest, candidate.engine_key, candidate.target, candidate.precision)
        found = Evaluation(*of, PROTOCOL, seconds, answers, candidate.batch_size)
        (folder / EVALUATION_FILE).write_text(found.to_json())

    key = evaluation_key(candidate, len(prompts))
    path, is_new = artifacts.build(KIND, key, fill)
    return path, read_evaluation(path), is_new


def videos(folder: Path, answers: Iterable[Answer]) -> "list[np.ndarray]":
    """The clips as their MP4s show them, uint8 (T, H, W, 3), in order; failed ones are left out."""
    from videogen.media.mp4 import decode_mp4

    return [decode_mp4((folder / answer.video).read_bytes()) for answer in answers if answer.video]


def reference_videos(prompts: Sequence[EvaluationPrompt], fps: int) -> "list[np.ndarray]":
    """What the world itself shows for `prompts`, coded as the answers are: what Fréchet distances are taken from."""
    import torch

    from videogen.media.mp4 import decode_mp4, encode_mp4
    from videogen.world.renderer import render

    clips = []
    for prompt in prompts:
        pixels = render(prompt.attributes, prompt.seed).permute(0, 2, 3, 1)
        frames = (pixels * 255).round().clamp(0, 255).to(torch.uint8).numpy()
        clips.append(decode_mp4(encode_mp4(frames, fps)))
    return clips


def read_evaluation(folder: Path) -> Evaluation:
    """The evaluation in `folder`. Raises ArtifactCorrupt if its file doesn't hold one."""
    try:
        stored = json.loads((folder / EVALUATION_FILE).read_text())
        answers = tuple(Answer(**answer) for answer in stored.pop("answers"))
        return Evaluation(answers=answers, **stored)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ArtifactCorrupt(f"{folder / EVALUATION_FILE} holds no evaluation: {error}") from error
