"""Which engine serves a target, and the evidence that its videos, at any batch size, are those of the reference.

An engine that has not been compared with the reference on this machine is not proven, and does not serve.
"""

import dataclasses
import hashlib
import importlib.metadata
import importlib.util
import json
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

from videogen.artifacts import Artifacts
from videogen.devices import Device
from videogen.errors import ArtifactCorrupt, EngineBuildFailed, EngineUnavailable
from videogen.settings import Target
from videogen.telling import Tell, Telling
from videogen.warming import BATCHES

if TYPE_CHECKING:
    from videogen.engines.base import Engine, Precision
    from videogen.engines.base import Target as EngineTarget
    from videogen.engines.fidelity import Fidelity, Reference
    from videogen.quality.gates import GateReport, GateSettings
    from videogen.requests import AcceptedRequest

State = Literal["proven", "refused", "built, unproven", "not built"]
"""`proven`: it ran here and passed its fidelity gates; `refused`: it ran and did not; the others could not run here."""

KIND, FILE = "proofs", "proof.json"
CLIPS = 8
"""Videos that an engine is compared on: each is also made once by eager torch. A full batch of the largest size."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One engine that was tried for a target. `refusal` says why it does not serve, None if it could."""

    builder: str
    precision: str
    seconds_per_video: float | None
    mean_psnr: float | None
    mean_ssim: float | None
    size: int | None
    refusal: str | None


@dataclass(frozen=True, slots=True)
class Proof:
    """What became of one target. `gates`: the JSON of its fidelity gates, where the engine ran; `reason` says why."""

    target: Target
    state: State
    reason: str = ""
    engine_key: str = ""
    builder: str = ""
    precision: str = ""
    gates: str = ""
    trials: tuple[Trial, ...] = ()

    @property
    def report(self) -> "GateReport | None":
        """The fidelity gates, None where nothing was measured."""
        from videogen.quality.gates import GateReport

        return GateReport.from_json(self.gates) if self.gates else None

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "Proof":
        """Raises ArtifactCorrupt if `text` is not what `to_json` wrote."""
        try:
            stored = json.loads(text)
            trials = tuple(Trial(**trial) for trial in stored.pop("trials"))
            return cls(trials=trials, **stored)
        except (ValueError, TypeError, KeyError) as error:
            raise ArtifactCorrupt(f"this is no proof of an engine: {error}") from error


def _gates(found: "Fidelity", settings: "GateSettings") -> "GateReport":
    from videogen.quality import gates

    psnr, ssim = ([getattr(clip, name) for clip in found.clips] for name in ("psnr", "ssim"))
    return gates.GateReport(gates.fidelity(psnr, ssim, settings))


def _judged(built: Proof, report: "GateReport") -> Proof:
    state: State = "proven" if report.outcome == "pass" else "refused"
    return dataclasses.replace(built, state=state, reason=report.reason, gates=report.to_json())


@dataclass(frozen=True, slots=True)
class _GateLimits:
    """What a CPU engine must reach to be chosen: exactly what its gate will ask of it. `tell` hears what it found."""

    settings: "GateSettings"
    tell: Tell

    def refusal(self, found: "Fidelity") -> str | None:
        report = _gates(found, self.settings)
        self.tell(_said(f"{found.target} {found.precision}", report))
        return None if report.outcome == "pass" else report.reason


def _said(engine: str, report: "GateReport") -> str:
    may = "may serve" if report.outcome == "pass" else "may not serve"
    return f"{engine} {may}: {'; '.join(gate.reason for gate in report.gates)}"


@dataclass(frozen=True, slots=True)
class Prover:
    """Proves engines of one model version on `requests`. `graph_key` is its graphs' and stands for its weights too.

    A CPU engine gets `streams` streams of one thread. `telling` hears of each part of the work.
    """

    artifacts: Artifacts
    folder: Path
    digest: str
    graph_key: str
    requests: "Sequence[AcceptedRequest]"
    device: Device
    streams: int
    settings: "GateSettings"
    telling: Telling = field(default_factory=Telling)

    def prove(self, target: Target) -> tuple[Proof, bool]:
        """The proof for a target, and whether it was found now: what was measured before on this device is kept."""
        if target == "cpu":
            return self._kept(target, self._versions(), self._prove_cpu)
        from videogen.engines.builders import GPU_CANDIDATES

        for builder, precision in GPU_CANDIDATES[target]:
            found = self._prove_on_gpu(target, builder, precision)
            if found[0].state != "refused":
                break
        return found

    def _prove_on_gpu(self, target: Target, builder: "EngineTarget", precision: "Precision") -> tuple[Proof, bool]:
        from videogen.engines.builders import builder_for
        from videogen.engines.cache import ensure_engine, load_engine

        try:
            made = builder_for(builder)
            stored = ensure_engine(self.artifacts, self.folder, self.digest, made, precision, self.telling.part)
        except (EngineUnavailable, EngineBuildFailed) as error:
            return Proof(target, "not built", str(error)), True
        built = Proof(target, "built, unproven", "", stored.key.digest, builder, precision)
        try:
            engine = load_engine(self.artifacts, built.engine_key)
        except EngineUnavailable as error:
            return dataclasses.replace(built, reason=str(error)), True
        return self._kept(target, (built.engine_key,), lambda: self._compared(built, engine, self._reference()))

    def _prove_cpu(self) -> Proof:
        from videogen.engines.select import select_engine

        limits, reference, streams = _GateLimits(self.settings, self.telling.tell), self._reference(), self.streams
        try:
            found = select_engine(
                self.artifacts, self.folder, self.digest, self.requests, limits=limits, reference=reference,
                streams=streams, batch_sizes=BATCHES[1:], part=self.telling.part,
            )  # fmt: skip
        except EngineUnavailable as error:
            return dataclasses.replace(self._refused(reference), state="refused", reason=str(error))
        chosen = found.chosen
        trials = tuple(
            Trial(c.target, c.precision, c.seconds_per_video, c.mean_psnr, c.mean_ssim, c.size, c.refusal)
            for c in found.candidates
        )
        key = chosen.engine_key or ""
        proof = Proof("cpu", "built, unproven", "", key, chosen.target, chosen.precision, trials=trials)
        return _judged(proof, _gates(found.fidelity, self.settings)) if found.fidelity else proof

    def _refused(self, reference: "Reference") -> Proof:
        """What the gates say of the plainest CPU engine, where none may serve."""
        from videogen.engines.builders import builder_for
        from videogen.engines.cache import ensure_engine, load_engine

        stored = ensure_engine(self.artifacts, self.folder, self.digest, builder_for("onnxruntime"), "fp32")
        engine = load_engine(self.artifacts, stored.key.digest, 1, self.streams)
        built = Proof("cpu", "built, unproven", "", stored.key.digest, "onnxruntime", "fp32")
        return self._compared(built, engine, reference)

    def _compared(self, built: Proof, engine: "Engine", reference: "Reference") -> Proof:
        from videogen.engines.fidelity import fidelity

        name = f"{built.builder} {built.precision}"
        with self.telling.part(f"comparing the videos of {name} with the reference's") as count:
            found = fidelity(self.folder, engine, self.requests, reference, BATCHES[1:], count)
        report = _gates(found, self.settings)
        self.telling.tell(_said(name, report))
        return _judged(built, report)

    def _reference(self) -> "Reference":
        from videogen.engines.fidelity import reference_frames

        with self.telling.part(f"making the reference's {len(self.requests)} videos with PyTorch") as count:
            return reference_frames(self.folder, self.requests, count)

    def _kept(self, target: Target, what: Sequence[str], measure: Callable[[], Proof]) -> tuple[Proof, bool]:
        from videogen.engines.cache import fused_schedule

        asked = [(request.request.prompt, request.request.seed) for request in self.requests]
        rules = self.settings.model_dump_json()
        identity = [
            target,
            self.graph_key,
            self.device.name,
            self.device.architecture,
            self.streams,
            BATCHES,
            rules,
            asked,
        ]
        ways = ["fused", "step by step"] if fused_schedule(self.folder) else []
        key = hashlib.sha256(json.dumps([*identity, *what, *ways]).encode()).hexdigest()

        with ExitStack() as looking:
            told = f"engines for {target}: looking whether they are proven, or are just being"
            looking.enter_context(self.telling.part(told, if_long=True))

            def fill(folder: Path) -> None:
                looking.close()
                (folder / FILE).write_text(measure().to_json())

            path, is_new = self.artifacts.build(KIND, key, fill)
        proof = Proof.from_json((path / FILE).read_text())
        if not is_new:
            self._build_again_if_gone(proof)
        return proof, is_new

    def _build_again_if_gone(self, proof: Proof) -> None:
        """A proof outlives its engine when somebody clears engines away, or when the engine's files were damaged."""
        from videogen.engines.builders import builder_for
        from videogen.engines.cache import ensure_engine

        builder, precision = builder_for(cast("EngineTarget", proof.builder)), cast("Precision", proof.precision)
        ensure_engine(self.artifacts, self.folder, self.digest, builder, precision, self.telling.part)

    def _versions(self) -> tuple[str, ...]:
        """The builders that are compared: another version of one may be faster, or wrong."""
        from videogen.engines.builders import CPU_CANDIDATES

        return tuple(f"{builder} {installed(builder)}" for builder in sorted({b for b, _ in CPU_CANDIDATES}))


def installed(package: str) -> str:
    """The version of a package, "absent" if it is not installed."""
    found = importlib.util.find_spec(package)
    return "absent" if found is None else importlib.metadata.version(package)
