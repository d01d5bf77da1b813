"""Model versions that are served side by side: loaded or built, proven, warmed at every shape, asked once."""

import dataclasses
import hashlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from videogen.errors import ArtifactCorrupt, ArtifactMissing, EngineUnavailable, GenerationFailed
from videogen.foreign_load import MOST, ForeignLoad
from videogen.scheduling.costs import BUSY_NEAR, NEAR, Table
from videogen.serving.engine.messages import EngineConfig, VersionToLoad

if TYPE_CHECKING:
    from videogen.artifacts import Artifacts
    from videogen.devices import Device
    from videogen.engines.base import Engine
    from videogen.engines.profile import LatencyProfile
    from videogen.models.wan import WanModel
    from videogen.requests import AcceptedRequest
    from videogen.telling import Telling

Tell = Callable[[str], None]
KIND, FILE = "serving-profiles", "profile.json"
SECONDS_PER_POINT = 0.03
"""First costs for the scheduler, which corrects them by every step it takes."""


@dataclass(frozen=True, slots=True, eq=False)
class Version:
    """One that answers. `tables`: guided or not -> T(B); `encode` makes an MP4 of what its model's `finish` gives."""

    digest: str
    label: str
    model: Any
    encode: Callable[[Any, float], bytes]
    tables: Mapping[bool, Table]
    engine_key: str
    precision: str
    target: str
    builder: str
    device: str
    ungated: bool
    built: bool = False
    probe_s: float = 0.0

    @property
    def facts(self) -> dict[str, Any]:
        """What every video of this version says of how it was made."""
        facts: dict[str, Any] = {"engine": self.engine_key}
        facts |= {name: getattr(self, name) for name in ("precision", "target", "builder", "device")}
        marks = {"ungated": self.ungated, "synthetic": self.target == "synthetic"}
        return facts | {name: True for name, marked in marks.items() if marked}


@dataclass(frozen=True, slots=True)
class Loader:
    """Loads versions for `device`, each on `streams` streams."""

    config: EngineConfig
    device: "Device"
    streams: int

    def load(self, version: VersionToLoad, tell: Tell, *, alone: bool) -> Version:
        """A version, warm and once asked. `alone`: nothing else runs here, so that what is timed may be kept.

        Raises EngineUnavailable where no engine may serve, ArtifactMissing without its files, GenerationFailed if its
        first video is not what it should be.
        """
        from videogen.engines.step_costs import step_costs
        from videogen.media.mp4 import encode_mp4
        from videogen.models.wan import WanModel
        from videogen.telling import Telling

        artifacts, folder, telling = self._artifacts(), Path(version.folder), Telling(tell)
        if not folder.is_dir():
            raise ArtifactMissing(f"{folder} does not exist: the files of {version.label}")
        engine, key, built = self._engine(artifacts, version, telling)
        model = WanModel(folder, engine)
        with telling.part(f"warming {engine.target} {engine.precision} at every shape"):
            profile, is_steady = self._profile(artifacts, folder, key, engine, alone=alone)
            self._warm(folder, engine, 2 if profile.guided else 1)
        with telling.part("making a first video"):
            mp4_s, probe_s = _probe(model, _questions(version, 1)[0])
        near = NEAR if is_steady else BUSY_NEAR
        costs = {guided: step_costs(dataclasses.replace(profile, guided=guided)) for guided in (False, True)}
        return Version(
            digest=version.version_digest,
            label=version.label,
            model=model,
            encode=encode_mp4,
            tables={guided: _as_served(table, mp4_s, near) for guided, table in costs.items()},
            engine_key=key,
            precision=engine.precision,
            target=version.target,
            builder=engine.target,
            device=engine.device,
            ungated=version.ungated,
            built=built,
            probe_s=probe_s,
        )

    def _artifacts(self) -> "Artifacts":
        from videogen.artifacts import Artifacts

        return Artifacts(self.config.artifacts_url, Path(self.config.artifacts_cache or "artifacts-cache"))

    def _engine(self, artifacts: "Artifacts", version: VersionToLoad, telling: "Telling") -> tuple["Engine", str, bool]:
        from videogen.engines.cache import load_engine

        if version.engine_key:
            try:
                with telling.part("loading the engine that passed its gates"):
                    engine = load_engine(artifacts, version.engine_key, self.config.threads, self.streams)
                return engine, version.engine_key, False
            except (ArtifactMissing, ArtifactCorrupt) as error:
                telling.tell(f"the engine that passed its gates is not to be had: {error}")
        key = self._proven(artifacts, version, telling)
        with telling.part("loading the engine that is proven here"):
            engine = load_engine(artifacts, key, self.config.threads, self.streams)
        return engine, key, True

    def _proven(self, artifacts: "Artifacts", version: VersionToLoad, telling: "Telling") -> str:
        from videogen.engines.cache import ensure_graph
        from videogen.proving import CLIPS, Prover
        from videogen.quality.gates import read_settings

        telling.tell(
            f"looking for an engine for {version.target} that is proven on this machine; "
            "without one it is built and compared with the reference: minutes"
        )
        folder = Path(version.folder)
        graphs = ensure_graph(artifacts, folder, version.version_digest, part=telling.part)
        prover = Prover(
            artifacts, folder, version.version_digest, graphs.key.digest, _questions(version, CLIPS),
            self.device, self.streams, read_settings(), telling,
        )  # fmt: skip
        proof, _ = prover.prove(version.target)
        if proof.state != "proven":
            raise EngineUnavailable(f"{version.label}: no engine for {version.target} may serve: {proof.reason}")
        return proof.engine_key

    def _profile(
        self, artifacts: "Artifacts", folder: Path, key: str, engine: "Engine", *, alone: bool
    ) -> tuple["LatencyProfile", bool]:
        """What the networks take; and whether nothing else ran while that was measured."""
        from videogen.engines.profile import LatencyProfile, profile_engine

        most = self._most(engine)
        batches = sorted({size for size in (1, 2, 4, 8, 16, 32, 64) if size < most} | {most})

        def measure() -> LatencyProfile:
            return profile_engine(
                folder, key, lambda threads, streams: engine, threads=self.config.threads, batches=batches,
                streams=sorted({1, self.streams}), seconds_per_point=SECONDS_PER_POINT,
            )  # fmt: skip

        identity = [key, self.device.name, self.device.architecture, self.streams, self.config.threads, batches]
        name = hashlib.sha256(json.dumps(identity).encode()).hexdigest()
        if artifacts.has(KIND, name):
            return LatencyProfile.from_json((artifacts.get(KIND, name) / FILE).read_text()), True
        others = ForeignLoad()
        profile = measure()
        is_steady = alone and others.share() <= MOST
        if is_steady:  # what a busy machine shows would mislead every later start
            artifacts.build(KIND, name, lambda folder: _write(folder / FILE, profile.to_json()))
        return profile, is_steady

    def _most(self, engine: "Engine") -> int:
        return min(self.config.batch_max, engine.shape.batch_max if engine.shape else self.config.batch_max)

    def _warm(self, folder: Path, engine: "Engine", rows: int) -> None:
        """Every network at every batch size that a schedule may ask for, on every stream."""
        from videogen.engines.profile import example_inputs

        most = self._most(engine)
        top = min(rows * most, engine.shape.batch_max if engine.shape else rows * most)
        for batch in range(1, top + 1):
            for network, inputs in example_inputs(folder, engine, batch).items():
                if batch <= most or network == "denoiser":
                    for _ in range(self.streams):  # calls go round the streams
                        engine.run(network, inputs)


def _write(path: Path, text: str) -> None:
    path.write_text(text)


def _questions(version: VersionToLoad, count: int) -> "list[AcceptedRequest]":
    from videogen.evaluation import evaluation_prompts, questions
    from videogen.models.loading import load_tokenizer
    from videogen.models.spec import read_spec

    vocabulary = getattr(load_tokenizer(version.folder), "vocabulary", None)
    spec = read_spec(version.folder)
    return questions(evaluation_prompts(count), spec, version.version_digest, version.label, vocabulary)


def _probe(model: "WanModel", accepted: "AcceptedRequest") -> tuple[float, float]:
    """Seconds of an MP4, and of a whole video, made as jobs are; checked. Raises GenerationFailed."""
    from videogen.media.mp4 import encode_mp4

    started = time.perf_counter()
    generation, request = model.start([accepted])[0], accepted.request
    if model.can_sample([generation]):
        frames = model.sample(model.start([accepted]))[0]
        _check(frames, accepted)
    model.step([generation], generation.steps)
    frames = model.finish([generation])[0]
    _check(frames, accepted)
    before = time.perf_counter()
    encode_mp4(frames, request.fps or 1)
    ended = time.perf_counter()
    return ended - before, ended - started


def _check(frames: Any, accepted: "AcceptedRequest") -> None:
    request = accepted.request
    expected = (request.num_frames, request.height, request.width, 3)
    if frames.shape != expected or frames.dtype != "uint8":
        raise GenerationFailed(f"the first video: got {frames.dtype} {frames.shape}; expected uint8 {expected}")


def _as_served(table: Table, mp4_s: float, near: float) -> Table:
    """With the MP4 of each video."""
    return Table(table.step, {(batch, streams): s + mp4_s * batch for (batch, streams), s in table.rest.items()}, near)
