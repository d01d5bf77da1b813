"""What MLflow's client needs around it: its own errors named, pages followed, databases made once."""

import logging
import os
import socket
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from videogen.errors import RegistryError, RegistryUnavailable
from videogen.locks import file_lock

_SQLITE = "sqlite:///"
_PAGE = 50
_REACH_SECONDS = 5.0  # MLflow itself would try for minutes, a sensor has one


@contextmanager
def session(tracking_uri: str, registry_uri: str) -> Generator[Any]:
    """An MlflowClient for exactly these URIs. What MLflow raises becomes RegistryError."""
    # Read when mlflow is imported: no calls to a third party, no progress bars in the logs of runs.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield _client(tracking_uri, registry_uri)
    except SQLAlchemyError as error:
        raise RegistryUnavailable(f"MLflow's database at {registry_uri} cannot be used: {error}") from error
    except MlflowException as error:
        raise RegistryError(f"MLflow at {registry_uri}: {error}") from error


def make_database(uri: str) -> None:
    """Makes the tables of an SQLite file that is not there yet; returns at once where it is, or for any other URI."""
    if uri.startswith(_SQLITE) and not Path(uri.removeprefix(_SQLITE)).exists():
        with session(uri, uri):
            pass


def or_none(call: Callable[[], Any]) -> Any:
    """What `call` gives, or None if MLflow says that there is no such thing."""
    from mlflow.exceptions import MlflowException

    try:
        return call()
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None


def pages(page: Callable[[str | None], Any]) -> Iterator[Any]:
    """Everything that a search has, page by page, as far as it is asked for."""
    token = None
    while True:
        found = page(token)
        yield from found
        token = found.token
        if not token:
            return


def newest_first(client: Any, name: str) -> Iterator[Any]:
    """A model's versions by falling number. Their aliases are empty: a search never has them."""
    quoted = name.replace("'", "''")
    return pages(
        lambda token: client.search_model_versions(
            f"name = '{quoted}'", max_results=_PAGE, order_by=["version_number DESC"], page_token=token
        )
    )


def create_registered_model(client: Any, name: str) -> None:
    """Makes the model if it is not there yet."""
    _create(lambda: client.create_registered_model(name))


def experiment(client: Any, name: str, location: str | None) -> str:
    """The id of the experiment `name`, made if it is not there yet; its runs' files go to `location`."""
    if client.get_experiment_by_name(name) is None:
        _create(lambda: client.create_experiment(name, artifact_location=location))
    return str(client.get_experiment_by_name(name).experiment_id)


@contextmanager
def run(client: Any, experiment_id: str, name: str, tags: Mapping[str, str]) -> Generator[Any]:
    """An MLflow run that ends as FINISHED, or as FAILED if something is raised in it."""
    created = client.create_run(experiment_id, run_name=name, tags=dict(tags))
    try:
        yield created.info
    except BaseException:
        client.set_terminated(created.info.run_id, "FAILED")
        raise
    client.set_terminated(created.info.run_id, "FINISHED")


def log_values(client: Any, run_id: str, params: Mapping[str, object], metrics: Mapping[str, float]) -> None:
    """Writes parameters and metrics in as few calls as MLflow takes."""
    from mlflow.entities import Metric, Param
    from mlflow.utils.time import get_current_time_millis

    now = get_current_time_millis()
    values = [Param(key, str(value)) for key, value in params.items()]
    for start in range(0, len(values), 100):
        client.log_batch(run_id, params=values[start : start + 100])
    numbers = [Metric(key, float(value), now, 0) for key, value in metrics.items()]
    for start in range(0, len(numbers), 1000):
        client.log_batch(run_id, metrics=numbers[start : start + 1000])


def download(uri: str, folder: Path, tracking_uri: str, registry_uri: str) -> Path:
    """Fetches an artifact folder into `folder` and returns where it lies."""
    from mlflow.artifacts import download_artifacts

    return Path(
        download_artifacts(artifact_uri=uri, dst_path=str(folder), tracking_uri=tracking_uri, registry_uri=registry_uri)
    )


def beside_database(uri: str) -> Path | None:
    """The folder for artefacts beside an SQLite file, or None for any other URI."""
    return Path(uri.removeprefix(_SQLITE)).parent / "mlartifacts" if uri.startswith(_SQLITE) else None


def _create(call: Callable[[], object]) -> None:
    from mlflow.exceptions import MlflowException

    try:
        call()
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _client(tracking_uri: str, registry_uri: str) -> Any:
    from mlflow import MlflowClient

    with ExitStack() as opening:
        for uri in sorted({tracking_uri, registry_uri}):
            _require_reachable(uri)
            opening.enter_context(_first_opening(uri))
        return MlflowClient(tracking_uri=tracking_uri, registry_uri=registry_uri)


@contextmanager
def _first_opening(uri: str) -> Generator[None]:
    """Lets one process at a time open an SQLite file, made if it is not there: two migrations would break each other.

    MLflow's own server takes no such lock: it must find the file made.
    """
    if not uri.startswith(_SQLITE):
        yield
        return
    path = Path(uri.removeprefix(_SQLITE))
    with file_lock(path.with_name(path.name + ".lock")):
        if not path.exists():
            _make(path)
        yield


def _make(path: Path) -> None:
    """Makes the tables aside, then renames them into place: nobody sees a part of them, whoever is killed meanwhile."""
    from mlflow.store.db import utils
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    aside = path.with_name(path.name + ".making")
    aside.unlink(missing_ok=True)
    logging.getLogger(utils.__name__).setLevel(logging.WARNING)  # two lines about it on everybody's error stream
    uri = f"{_SQLITE}{aside}"
    SqlAlchemyStore(uri, str(beside_database(uri))).engine.dispose()
    aside.rename(path)


def _require_reachable(uri: str) -> None:
    parts = urlsplit(uri)
    if parts.scheme not in ("http", "https") or parts.hostname is None:
        return
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        socket.create_connection((parts.hostname, port), _REACH_SECONDS).close()
    except OSError as error:
        raise RegistryUnavailable(f"MLflow at {uri} cannot be reached: {error}") from error
