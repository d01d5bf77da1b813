"""Runs the lifecycle job in this process, on gates of a test's own, and reads what it left."""

from importlib import resources
from pathlib import Path
from shutil import copytree

import dagster as dg
import pytest

from tests.videogen_assets.conftest import Installation
from videogen_assets.definitions import defs
from videogen_assets.partitions import model_versions

NAME, LABEL = "videogen-tiny", "videogen-tiny@1"
FEW = {"ops": {"evaluation_videos": {"config": {"count": 20}}}}
"""Too few prompts for any gate on agreement: their minimum is 48."""
FEWEST = {"ops": {"evaluation_videos": {"config": {"count": 8}}}}
"""As many as the lenient gates ask for."""
LENIENT = {"joint = 0.60": "joint = 0", "minimum_clips = 48": "minimum_clips = 8"}


def with_gates(monkeypatch: pytest.MonkeyPatch, folder: Path, **changes: str) -> None:
    """Gates that a first version of random weights passes: any agreement will do, on a few clips; and these changes.

    A change is a line of a section of `gates.toml`: `with_gates(…, latency_regression="ratio = 100")`.
    """
    text = (resources.files("videogen.quality") / "gates.toml").read_text()
    for old, new in LENIENT.items():
        text = text.replace(old, new)
    for section, lines in changes.items():
        head, start, rest = text.partition(f"[{section}]")
        assert start, f"gates.toml has no section {section}"
        body, end, tail = rest.partition("\n\n")
        names = {line.partition(" =")[0] for line in lines.splitlines()}
        kept = [line for line in body.splitlines()[1:] if line.partition(" =")[0] not in names]
        text = head + start + "\n" + "\n".join([*kept, lines]) + end + tail
    path = folder / "gates.toml"
    path.write_text(text)
    monkeypatch.setenv("VIDEOGEN_GATES", str(path))


def run_lifecycle(
    installation: Installation, label: str, config: dict, resources: dict | None = None
) -> dg.ExecuteInProcessResult:
    installation.instance.add_dynamic_partitions(model_versions.name, [label])
    job = defs().resolve_job_def("model_lifecycle")
    return job.execute_in_process(
        partition_key=label,
        instance=installation.instance,
        run_config=config,
        raise_on_error=False,
        resources=resources or {},
    )


def run_first(installation: Installation, model: Path, config: dict, measured: Path) -> dg.ExecuteInProcessResult:
    """Version 1 goes through the job; what it measures is kept in `measured`, or taken from there if it is."""
    kept, is_first = installation.home / "artifacts", not measured.exists()
    if not is_first:
        copytree(measured, kept, dirs_exist_ok=True)
    installation.registry.register(NAME, model, "random weights")
    result = run_lifecycle(installation, LABEL, config)
    if is_first:
        copytree(kept, measured)
    return result


def checks(result: dg.ExecuteInProcessResult) -> dict[str, dg.AssetCheckEvaluation]:
    return {found.check_name: found for found in result.get_asset_check_evaluations()}


def materialised(result: dg.ExecuteInProcessResult) -> set[str]:
    return {event.asset_key.to_user_string() for event in result.get_asset_materialization_events() if event.asset_key}


def latest(installation: Installation, asset: str) -> dict[str, dg.MetadataValue]:
    event = installation.instance.get_latest_materialization_event(dg.AssetKey(asset))
    assert event is not None and event.asset_materialization is not None
    return dict(event.asset_materialization.metadata)
