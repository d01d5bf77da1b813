"""From an engine's key to something that generates: loaded once per run, on as many streams as the device likes."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from resources.engines import EnginesResource
from videogen.artifacts import Artifacts
from videogen.evaluation import Candidate

if TYPE_CHECKING:
    from videogen.engines.base import Engine
    from videogen.generate import Generator


@dataclass(frozen=True, slots=True)
class Opener:
    """Opens engines out of `artifacts`, and keeps them in `engines` for the rest of the run."""

    artifacts: Artifacts
    engines: EnginesResource

    def generator(self, folder: Path, engine_key: str, batch_size: int = 1) -> "Generator":
        """A generator with the model in `folder` on the engine of this key.

        Raises ArtifactMissing, ArtifactCorrupt, EngineUnavailable.
        """
        from videogen.generate import Generator
        from videogen.models.wan import WanModel

        return Generator(WanModel(folder, self.engine(engine_key)), batch_size)

    def candidate(self, candidate: Candidate) -> "Generator":
        """A generator with a candidate's model on its engine, at its batch size. Raises as `generator` does."""
        return self.generator(candidate.model.folder, candidate.engine_key, candidate.batch_size)

    def engine(self, engine_key: str) -> "Engine":
        """One thread to a stream: on a CPU two streams of one thread do more than one stream of two."""
        from videogen.engines.cache import load_engine

        return self.engines.warm(engine_key, lambda threads: load_engine(self.artifacts, engine_key, 1, threads))
