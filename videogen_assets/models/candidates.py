"""Which engines of which versions are measured: those of this version that run here, and the champion's."""

from dataclasses import dataclass, replace

import dagster as dg

from videogen.artifacts import Artifacts
from videogen.evaluation import Candidate
from videogen.models.spec import read_spec
from videogen.resolve import WEIGHTS, ResolvedModel
from videogen.store.records import Champion
from videogen.store.store import Store
from videogen_assets.labels import parse_label
from videogen_assets.models.targets import proven
from videogen_assets.models.warm_ups import warm_ups_of
from videogen_assets.references import DIGEST, reference

CHAMPION_GENERATION = "champion_generation"
AGAIN = "materialise warm_up and what follows it again"


@dataclass(frozen=True, slots=True)
class Contest:
    """This version's engines, and whom they are measured against.

    `champion` is what served when the measuring began, None if nothing did; `rivals` are its engines, or those of the
    version before it if this version is the champion; none if no other version ever served.
    """

    own: tuple[Candidate, ...]
    champion: Champion | None
    rivals: tuple[Candidate, ...]

    @property
    def rival(self) -> Candidate | None:
        """Whose videos are compared: the engine for the first target that both have, else the first there is."""
        shared = [self.rival_on(candidate.target) for candidate in self.own]
        return next((rival for rival in (*shared, *self.rivals) if rival), None)

    def rival_on(self, target: str) -> Candidate | None:
        """The engine for this very target: another's time says nothing about it."""
        return next((rival for rival in self.rivals if rival.target == target), None)

    @property
    def generation(self) -> int:
        """Where the champion pointer stood, 0 if there was none."""
        return self.champion.generation if self.champion else 0


def version_of(instance: dg.DagsterInstance, artifacts: Artifacts, label: str) -> ResolvedModel:
    """The version as `model_weights` left it. Raises NotMaterialised, ArtifactMissing, ArtifactCorrupt."""
    digest = reference(instance, "model_weights", label, DIGEST)
    folder = artifacts.get(WEIGHTS, digest)
    return ResolvedModel(label, digest, folder, read_spec(folder), {})


def begin_contest(instance: dg.DagsterInstance, artifacts: Artifacts, store: Store, label: str) -> Contest:
    """The contest with what serves now. Raises NotMaterialised; ArtifactMissing if the champion's files are gone."""
    return _against(instance, artifacts, store.champion(parse_label(label)[0]), label)


def _against(instance: dg.DagsterInstance, artifacts: Artifacts, champion: Champion | None, label: str) -> Contest:
    model = version_of(instance, artifacts, label)
    proofs = proven(instance, label)
    own = tuple(Candidate(model, proof.engine_key, proof.target, proof.precision) for proof in proofs)
    other = champion.previous if champion and champion.version_digest == model.version_digest else champion
    return Contest(own, champion, _engines_of(artifacts, other) if other else ())


def go_on_with_contest(instance: dg.DagsterInstance, artifacts: Artifacts, store: Store, label: str) -> Contest:
    """The contest that `warm_up` began, each engine at the batch size that it measured.

    Raises dg.Failure if another version has become champion since, or an engine has been built anew.
    """
    began, champion = reference(instance, "warm_up", label, CHAMPION_GENERATION), store.champion(parse_label(label)[0])
    own_digest = reference(instance, "model_weights", label, DIGEST)
    if champion is not None and champion.version_digest != own_digest and began != str(champion.generation):
        raise dg.Failure(
            f"{label} was measured against the champion of generation {began}; by now it is of generation "
            f"{champion.generation}: {champion.label}; {AGAIN}",
            allow_retries=False,
        )
    contest = _against(instance, artifacts, champion, label)
    warm_ups = warm_ups_of(instance, artifacts, label)
    for one in contest.own:
        if one.target not in warm_ups or warm_ups[one.target].profile.engine_key != one.engine_key:
            raise dg.Failure(f"{label}: its engine for {one.target} was not measured; {AGAIN}", allow_retries=False)
    own = tuple(replace(one, batch_size=warm_ups[one.target].batch_size) for one in contest.own)
    return replace(contest, own=own)


def _engines_of(artifacts: Artifacts, champion: Champion) -> tuple[Candidate, ...]:
    folder = artifacts.get(WEIGHTS, champion.version_digest)
    model = ResolvedModel(champion.label, champion.version_digest, folder, read_spec(folder), champion.targets)
    return tuple(
        Candidate(model, one.engine_key, target, one.precision, one.batch_size)
        for target, one in champion.targets.items()
    )
