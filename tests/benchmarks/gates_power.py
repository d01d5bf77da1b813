"""What the gates can tell apart: over many seeds, how often a good version passes and a damaged one fails.

    python -m tests.benchmarks.gates_power --champion models/videogen-tiny/1 --candidate models/videogen-tiny/2
    python -m tests.benchmarks.gates_power --rehearse

Every seed is an evaluation of its own: other held-out prompts, other noise. The damaged version is the candidate
(the champion where there is none) with the weights shuffled through which text reaches the pixels; it loads and runs.
A rehearsal takes true clips, some with one attribute changed, in place of a model's. Writes a Markdown table.
"""

import argparse
import random
import shlex
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from deploy.local.damage import damage
from tests.benchmarks.shared import machine
from videogen.artifacts import Artifacts
from videogen.engines.base import Target
from videogen.evaluation import EvaluationPrompt, evaluation_prompts
from videogen.quality.agreement import Agreement, agreement
from videogen.quality.features import features
from videogen.quality.gates import (
    GateResult,
    GateSettings,
    KvdComparison,
    agreement_floor,
    agreement_regression,
    kvd_regression,
    read_settings,
    spoilt,
)
from videogen.quality.kvd import kvd, kvd_difference
from videogen.quality.oracle import judge
from videogen.world.grammar import FIELDS, WORDS, Attributes

RESULTS = Path(__file__).parent / "results" / "gates.md"
Clips = list[np.ndarray]
Source = Callable[[Sequence[EvaluationPrompt]], Clips]
"""Makes one clip, uint8 (T, H, W, 3), for each prompt, in order."""


@dataclass(frozen=True, slots=True)
class Versions:
    """Where the clips of the three versions come from."""

    champion: Source
    candidate: Source
    damaged: Source


@dataclass(frozen=True, slots=True)
class Trial:
    """One seed. Each pair is (the good version's result, the damaged one's)."""

    seed: int
    agreed: dict[str, Agreement]
    floor: tuple[GateResult, GateResult]
    regression: tuple[GateResult, GateResult]
    distance: tuple[GateResult, GateResult] | None


def true_clip(attributes: Attributes, seed: int) -> np.ndarray:
    from videogen.world.renderer import render

    return (render(attributes, seed) * 255).round().byte().permute(0, 2, 3, 1).numpy()


def rehearsed(share_right: float, changes: int) -> Source:
    """True clips; all but `share_right` of them have `changes` attributes changed. Whether a prompt is hard depends on
    the prompt, so that two sources fail on nearly the same ones."""

    def make(prompts: Sequence[EvaluationPrompt]) -> Clips:
        clips = []
        for prompt in prompts:
            rng, shown = random.Random(f"{prompt.prompt} {prompt.seed}"), prompt.attributes
            if rng.random() >= share_right:
                for field in rng.sample(FIELDS, changes):
                    others = [value for value in WORDS[field] if value != getattr(shown, field)]
                    shown = replace(shown, **{field: rng.choice(others)})
            clips.append(true_clip(shown, prompt.seed))
        return clips

    return make


def generated(folder: Path, target: Target, threads: int, artifacts: Artifacts) -> Source:
    """The clips of a model folder through an engine for `target`, built once."""
    from videogen.engines.builders import builder_for
    from videogen.engines.cache import ensure_engine, load_engine
    from videogen.generate import Failure, Generator
    from videogen.manifest import build_manifest
    from videogen.models.wan import WanModel
    from videogen.requests import Request, accept

    digest = build_manifest(folder).digest
    stored = ensure_engine(artifacts, folder, digest, builder_for(target), "fp32")
    model = WanModel(folder, load_engine(artifacts, stored.key.digest, threads))
    generator = Generator(model)

    def make(prompts: Sequence[EvaluationPrompt]) -> Clips:
        asked = [accept(Request(prompt=p.prompt, seed=p.seed), model.spec, digest) for p in prompts]
        found = {}
        for outcome in generator.generate(asked):
            if isinstance(outcome, Failure):
                raise outcome.error
            found[outcome.request.id] = outcome.frames
        return [found[accepted.id] for accepted in asked]

    return make


def judged(prompts: Sequence[EvaluationPrompt], clips: Clips) -> Agreement:
    return agreement((prompt.attributes, judge(clip)) for prompt, clip in zip(prompts, clips, strict=True))


def distances(
    prompts: Sequence[EvaluationPrompt], clips: dict[str, Clips], artifacts: Artifacts, settings: GateSettings
) -> tuple[GateResult, GateResult]:
    """KVD of the candidate and of the damaged version against the champion's; the reference is what was asked for."""
    reference = [true_clip(prompt.attributes, prompt.seed) for prompt in prompts]
    shown = {"reference": reference, "spoilt": [spoilt(clip) for clip in reference], **clips}
    taken = {name: features(artifacts, some).values for name, some in shown.items()}
    scale = kvd(taken["reference"], taken["spoilt"])

    def gate(name: str) -> GateResult:
        found = kvd_difference(taken["reference"], taken["champion"], taken[name], settings.level, settings.resamples)
        comparison = KvdComparison(found.value, found.low, found.high, scale, len(prompts), "i3d")
        return kvd_regression(comparison, settings)

    return gate("candidate"), gate("damaged")


def run_trial(
    seed: int, versions: Versions, count: int, settings: GateSettings, features_kept: Artifacts | None
) -> Trial:
    """One seed; the distances too where there is a place for features."""
    prompts = evaluation_prompts(count, f"gates power {seed}")
    clips = {name: getattr(versions, name)(prompts) for name in Versions.__slots__}
    agreed = {name: judged(prompts, some) for name, some in clips.items()}
    hits = {name: found.hits for name, found in agreed.items()}
    return Trial(
        seed,
        agreed,
        (agreement_floor(agreed["champion"], settings), agreement_floor(agreed["damaged"], settings)),
        (
            agreement_regression(hits["champion"], hits["candidate"], settings),
            agreement_regression(hits["champion"], hits["damaged"], settings),
        ),
        distances(prompts, clips, features_kept, settings) if features_kept else None,
    )


def _shown(result: GateResult) -> str:
    return f"{result.outcome} {result.value:.3f} [{result.low:.3f}, {result.high:.3f}]"


def _verdicts(trials: Sequence[Trial], gate: str) -> str:
    pairs = [pair for trial in trials if (pair := getattr(trial, gate))]
    passed, failed = (sum(pair[i].outcome == want for pair in pairs) for i, want in ((0, "pass"), (1, "fail")))
    return f"good passes {passed} of {len(pairs)}, damaged fails {failed} of {len(pairs)}"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return ["", _row(head), _row(["---"] * len(head)), *map(_row, rows)]


def _trial_cells(trial: Trial, width: int) -> list[str]:
    cells = [str(trial.seed), *map(_shown, (*trial.floor, *trial.regression, *(trial.distance or ())))]
    return cells + ["–"] * (width - len(cells))


def markdown(trials: Sequence[Trial], count: int, command: str, seconds: float, level: float) -> str:
    """The tables, their summary first."""
    head = ["seed", "floor, champion", "floor, damaged", "candidate − champion", "damaged − champion"]
    lines = ["# What the gates tell apart", "", f"`{command}`", "", f"{machine()}.", ""]
    lines += [f"{len(trials)} seeds, {count} clips per version and seed, {seconds / 60:.1f} minutes."]
    lines += [
        f"Values with {level:.0%} intervals; margins and minimum samples are in `videogen/quality/gates.toml`.",
        "",
    ]
    lines += [f"- agreement floor (a first version): {_verdicts(trials, 'floor')}"]
    lines += [f"- agreement against the champion: {_verdicts(trials, 'regression')}"]
    if any(trial.distance for trial in trials):
        lines += [f"- KVD against the champion, over the KVD of spoilt clips: {_verdicts(trials, 'distance')}"]
        head += ["KVD, candidate", "KVD, damaged"]
    lines += _table(head, [_trial_cells(trial, len(head)) for trial in trials])
    shares = [*FIELDS, "joint"]
    lines += _table(["share right, all seeds", *shares], [[n, *_means(trials, n, shares)] for n in Versions.__slots__])
    return "\n".join(lines) + "\n"


def _means(trials: Sequence[Trial], version: str, shares: Sequence[str]) -> list[str]:
    found = [trial.agreed[version].shares() for trial in trials]
    return [f"{np.mean([each[share].value for each in found]):.3f}" for share in shares]


def is_proven(trials: Sequence[Trial]) -> bool:
    """Every good version passed and every damaged one failed, at the two gates of agreement."""
    return all(
        good.outcome == "pass" and bad.outcome == "fail"
        for trial in trials
        for good, bad in (trial.floor, trial.regression)
    )


def _sources(options: argparse.Namespace, scratch: Path, artifacts: Artifacts) -> Versions:
    if options.rehearse:
        return Versions(rehearsed(0.85, 1), rehearsed(0.82, 1), rehearsed(0.02, 2))
    candidate = options.candidate or options.champion
    damaged = damage(candidate, scratch / "damaged")
    folders = (options.champion, candidate, damaged)
    return Versions(*(generated(folder, options.target, options.threads, artifacts) for folder in folders))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--champion", type=Path, help="model folder of the version in service")
    parser.add_argument("--candidate", type=Path, help="model folder of the next version")
    parser.add_argument("--rehearse", action="store_true", help="true clips with errors in place of models")
    parser.add_argument("--target", default="onnxruntime")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--artifacts", default="var/artifacts", help="where engines are kept")
    parser.add_argument("--clips", type=int, default=128)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--kvd-seeds", type=int, default=0, help="this many seeds with I3D features, 1 s per clip")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    if not options.rehearse and options.champion is None:
        parser.error("name a --champion, or --rehearse")
    settings, artifacts, started, trials = read_settings(), Artifacts(options.artifacts), time.monotonic(), []
    with tempfile.TemporaryDirectory() as scratch:
        versions = _sources(options, Path(scratch), artifacts)
        for seed in range(options.seeds):
            kept = artifacts if seed < options.kvd_seeds else None
            trials.append(run_trial(seed, versions, options.clips, settings, kept))
            outcomes = [gate.outcome for gate in (*trials[-1].floor, *trials[-1].regression)]
            sys.stderr.write(f"seed {seed}: {', '.join(outcomes)}, {time.monotonic() - started:.0f} s\n")
    command = shlex.join(["python", "-m", "tests.benchmarks.gates_power", *sys.argv[1:]])
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(markdown(trials, options.clips, command, time.monotonic() - started, settings.level))
    return 0 if is_proven(trials) else 1


if __name__ == "__main__":
    raise SystemExit(main())
