"""The model registry: MLflow, spoken to through explicit URIs only.

A version's identity is its manifest's digest. Registration writes `manifest.json` beside the files and the digest as
the version's tag; a pull checks every file against both. Aliases are a wish and an audit: what serves is a record in
the store.
"""

import shutil
import tempfile
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from videogen import mlflow_client
from videogen.errors import (
    ArtifactCorrupt,
    ArtifactError,
    ArtifactMissing,
    ArtifactRefused,
    RegistryError,
    VersionNotFound,
)
from videogen.manifest import MANIFEST_NAME, build_manifest, check_safe, read_manifest, verify

DIGEST_TAG = "manifest_digest"
PINNED_TAG = "manifest_pinned"
_FOLDER = "model"


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """One version as the registry has it now. `digest` is None if it was registered without a manifest."""

    name: str
    version: int
    digest: str | None
    source: str
    run_id: str | None = None
    description: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    aliases: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """`name@version`: for people; numbers start again with a new database."""
        return f"{self.name}@{self.version}"


@dataclass(frozen=True, slots=True)
class ModelSummary:
    """A model at a glance: its highest version number (0 if it has none), that one's digest, and its aliases."""

    name: str
    latest: int
    latest_digest: str | None
    aliases: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class ModelRegistry:
    """Versions of models in MLflow.

    `artifact_root` is where files go when `tracking_uri` is a database and no server decides it: by default
    `mlartifacts` beside an SQLite file. `ui` is the address a person's browser finds MLflow at, if it is not the
    tracking URI itself; `dagster_ui` is where it finds Dagster, for the links back. Every method raises RegistryError
    if MLflow refuses or cannot be reached.
    """

    tracking_uri: str = "sqlite:///var/mlflow.db"
    registry_uri: str | None = None
    artifact_root: Path | None = None
    ui: str | None = None
    dagster_ui: str | None = None

    def register(
        self, name: str, folder: Path, description: str = "", tags: Mapping[str, str] | None = None
    ) -> ModelVersion:
        """Uploads `folder` as the next version of `name`, or gives the version that already is these very files.

        Raises ArtifactRefused or ArtifactCorrupt if the folder holds what a pull would refuse.
        """
        check_safe(folder)
        manifest = build_manifest(folder)
        with self._client() as client:
            existing = [version for version in self.versions(name) if version.digest == manifest.digest]
            if existing:
                return existing[-1]
            with mlflow_client.run(client, self._experiment(client, name), f"register {name}", {}) as run:
                client.log_artifacts(run.run_id, str(folder), _FOLDER)
                client.log_text(run.run_id, manifest.to_json(), f"{_FOLDER}/{MANIFEST_NAME}")
                mlflow_client.create_registered_model(client, name)
                created = client.create_model_version(
                    name=name,
                    source=f"{run.artifact_uri}/{_FOLDER}",
                    run_id=run.run_id,
                    tags={**(tags or {}), DIGEST_TAG: manifest.digest},
                    description=description,
                )
            return self.version(name, int(created.version))

    def models(self) -> list[str]:
        """The names of all registered models, sorted."""
        return [summary.name for summary in self.summaries()]

    def summaries(self) -> list[ModelSummary]:
        """Every model at a glance, by name; a handful of queries however many there are."""
        with self._client() as client:
            found = mlflow_client.pages(lambda token: client.search_registered_models(page_token=token))
            return sorted(map(_summary, found), key=lambda summary: summary.name)

    def versions(self, name: str | None = None, newer_than: int = 0) -> list[ModelVersion]:
        """Versions above number `newer_than`, of `name` or of every model, oldest first. None of an unknown name."""
        if name is None:
            return [version for model in self.models() for version in self.versions(model, newer_than)]
        with self._client() as client:
            aliases, found = self.aliases(name), []
            for version in mlflow_client.newest_first(client, name):
                if int(version.version) <= newer_than:
                    break
                found.append(_version(version, aliases))
            return found[::-1]

    def version(self, name: str, version: int) -> ModelVersion:
        """One version. Raises VersionNotFound, naming those that exist."""
        with self._client() as client:
            stored = mlflow_client.or_none(lambda: client.get_model_version(name, str(version)))
            if stored is None:
                known = ", ".join(str(found.version) for found in self.versions(name)) or "none"
                raise VersionNotFound(f"{name}@{version} is not in the registry; versions of {name}: {known}")
            return _version(stored, self.aliases(name))

    def aliases(self, name: str) -> dict[str, int]:
        """Alias to version number; empty for an unknown model. A search would give no aliases at all."""
        with self._client() as client:
            model = mlflow_client.or_none(lambda: client.get_registered_model(name))
            return {alias: int(version) for alias, version in model.aliases.items()} if model else {}

    def pull(self, name: str, version: int, target: Path, pin: bool = False) -> Path:
        """Downloads a version's files into the empty folder `target` and returns it; every file is verified.

        A version without a manifest digest is refused, unless `pin` says to take it as it is: its digest then becomes
        its identity for good. Raises VersionNotFound (also if it is deleted meanwhile), ArtifactRefused,
        ArtifactCorrupt naming the file. Nothing stays in `target` then.
        """
        wanted = self.version(name, version)
        if wanted.digest is None and not pin:
            raise ArtifactRefused(
                f"{wanted.label} was registered without a manifest (tag {DIGEST_TAG}), so nobody can say what it is;"
                " register it again with `videogen`, or pin it once as it is"
            )
        target.mkdir(parents=True, exist_ok=True)
        if any(target.iterdir()):
            raise ArtifactError(f"{target} is not empty")
        with tempfile.TemporaryDirectory(prefix=".pull-", dir=target) as incoming:
            files = self._download(wanted, Path(incoming))
            digest = _verified(files, wanted)
            if wanted.digest is None:
                self.set_tags(name, version, {DIGEST_TAG: digest, PINNED_TAG: "true"})
            self.version(name, version)  # what was deleted meanwhile must not live on as an artifact
            for path in files.iterdir():
                path.rename(target / path.name)
        return target

    def set_alias(self, name: str, alias: str, version: int) -> None:
        """Points `alias` at a version; the last writer wins. Raises VersionNotFound."""
        self.version(name, version)
        with self._client() as client:
            client.set_registered_model_alias(name, alias, str(version))

    def delete_alias(self, name: str, alias: str) -> None:
        """Takes an alias away; no error if there is none."""
        with self._client() as client:
            client.delete_registered_model_alias(name, alias)

    def set_tags(self, name: str, version: int, tags: Mapping[str, str]) -> None:
        """Adds tags to a version. Raises VersionNotFound."""
        self.version(name, version)
        with self._client() as client:
            for key, value in tags.items():
                client.set_model_version_tag(name, str(version), key, value)

    def log_evaluation(
        self,
        version: ModelVersion,
        params: Mapping[str, object],
        metrics: Mapping[str, float],
        artifacts: Mapping[str, Path],
        dagster_run_id: str,
    ) -> str:
        """Writes one MLflow run with an evaluation's evidence and returns its id.

        `artifacts` maps the path a file shall have in the run to where it lies now. The Dagster run and the version
        stand in the run's tags, and the run's id in the version's.
        """
        back = {"dagster_run_id": dagster_run_id}
        if self.dagster_ui:
            back["dagster_run"] = f"{self.dagster_ui.rstrip('/')}/runs/{dagster_run_id}"
        tags = {**back, "model_version": version.label, DIGEST_TAG: version.digest or ""}
        if "dagster_run" in back:
            tags["mlflow.note.content"] = f"[The Dagster run that measured this]({back['dagster_run']})"
        with self._client() as client:
            experiment = self._experiment(client, version.name)
            with mlflow_client.run(client, experiment, f"evaluate {version.label}", tags) as run:
                mlflow_client.log_values(client, run.run_id, params, metrics)
                for name, path in artifacts.items():
                    _log_file(client, run.run_id, name, path)
            self.set_tags(version.name, version.version, {"evaluation_run_id": run.run_id, **back})
            return str(run.run_id)

    def ui_url(self, version: ModelVersion) -> str | None:
        """The page about a version, or None if MLflow has no address a browser could open."""
        base = self._ui_base()
        return base and f"{base}/#/models/{version.name}/versions/{version.version}"

    def run_url(self, run_id: str) -> str | None:
        """The page about an MLflow run, or None if MLflow has no address a browser could open."""
        base = self._ui_base()
        if base is None:
            return None
        with self._client() as client:
            experiment = client.get_run(run_id).info.experiment_id
        return f"{base}/#/experiments/{experiment}/runs/{run_id}"

    def _ui_base(self) -> str | None:
        base = self.ui or (self.tracking_uri if self.tracking_uri.startswith("http") else None)
        return base and base.rstrip("/")

    def _client(self) -> AbstractContextManager[Any]:
        return mlflow_client.session(self.tracking_uri, self.registry_uri or self.tracking_uri)

    def _experiment(self, client: Any, model: str) -> str:
        root = self.artifact_root or mlflow_client.beside_database(self.tracking_uri)
        location = f"{root.absolute().as_uri()}/{model}" if root else None
        return mlflow_client.experiment(client, f"videogen/{model}", location)

    def _download(self, wanted: ModelVersion, incoming: Path) -> Path:
        try:
            with self._client() as client:
                uri = client.get_model_version_download_uri(wanted.name, str(wanted.version))
                return mlflow_client.download(uri, incoming, self.tracking_uri, self.registry_uri or self.tracking_uri)
        except (RegistryError, OSError) as error:
            self.version(wanted.name, wanted.version)
            raise RegistryError(
                f"{wanted.label}: its files could not be fetched from {wanted.source}: {error}"
            ) from error


def _version(stored: Any, aliases: Mapping[str, int]) -> ModelVersion:
    number = int(stored.version)
    return ModelVersion(
        name=stored.name,
        version=number,
        digest=stored.tags.get(DIGEST_TAG),
        source=stored.source,
        run_id=stored.run_id or None,
        description=stored.description or "",
        tags=dict(stored.tags),
        aliases=tuple(sorted(alias for alias, target in aliases.items() if target == number)),
    )


def _summary(stored: Any) -> ModelSummary:
    latest = max(stored.latest_versions, key=lambda version: int(version.version), default=None)
    aliases = {alias: int(version) for alias, version in stored.aliases.items()}
    if latest is None:
        return ModelSummary(stored.name, 0, None, aliases)
    return ModelSummary(stored.name, int(latest.version), latest.tags.get(DIGEST_TAG), aliases)


def _verified(files: Path, wanted: ModelVersion) -> str:
    """The digest of what was fetched, once it is known to be what was registered or pinned."""
    if wanted.digest is None or wanted.tags.get(PINNED_TAG) == "true":
        check_safe(files)
        digest = build_manifest(files).digest
        if digest != (wanted.digest or digest):
            raise ArtifactCorrupt(f"{wanted.label} was pinned as {wanted.digest}, its files now give {digest}")
        return digest
    try:
        manifest = read_manifest(files)
    except ArtifactMissing as error:
        raise ArtifactCorrupt(f"{wanted.label}: its {MANIFEST_NAME} is gone from {wanted.source}") from error
    if manifest.digest != wanted.digest:
        raise ArtifactCorrupt(
            f"{wanted.label}: {MANIFEST_NAME} was changed: it says {manifest.digest}, {wanted.digest} was registered"
        )
    verify(files, manifest)
    check_safe(files)
    return manifest.digest


def _log_file(client: Any, run_id: str, name: str, path: Path) -> None:
    folder, _, file = name.rpartition("/")
    if path.is_dir():
        client.log_artifacts(run_id, str(path), name)
    elif path.name == file:
        client.log_artifact(run_id, str(path), folder or None)
    else:
        with tempfile.TemporaryDirectory() as renamed:
            copy = shutil.copyfile(path, Path(renamed) / file)
            client.log_artifact(run_id, str(copy), folder or None)
