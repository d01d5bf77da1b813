"""From a sealed batch to published videos, through real assets on a real engine."""

from pathlib import Path

import dagster as dg
import pytest

from tests.videogen_assets.conftest import Installation
from videogen.engines.builders import builder_for
from videogen.engines.cache import ensure_engine
from videogen.manifest import build_manifest
from videogen.media.mp4 import decode_mp4
from videogen.models.spec import read_spec
from videogen.requests import Request, accept
from videogen.store.records import Champion, ServedEngine
from videogen_assets.batches.batch import request_batch
from videogen_assets.batches.quality import batch_quality
from videogen_assets.batches.videos import generated_videos
from videogen_assets.partitions import request_batches

LABEL, PROMPTS = (
    "videogen-tiny@1",
    ("a small red ring moving up on a black background", "a large blue star rising on a grey backdrop"),
)
ASSETS = [request_batch, generated_videos, batch_quality]


def serve(installation: Installation, folder: Path) -> str:
    """Makes the model the champion without measuring it; its engine is there already. Returns its digest."""
    digest = build_manifest(folder).digest
    engine = ensure_engine(installation.artifacts, folder, digest, builder_for("onnxruntime"), "fp32")
    served = ServedEngine(engine.key.digest, "fp32", "no report")
    installation.store.promote("videogen-tiny", Champion(digest, LABEL, {"cpu": served}), 0)
    return digest


def submit(installation: Installation, folder: Path, digest: str, prompts=PROMPTS) -> list[str]:
    spec = read_spec(folder)
    accepted = [accept(Request(prompt=p, seed=s), spec, digest, label=LABEL) for s, p in enumerate(prompts)]
    return [installation.store.submit(one, source="test").id for one in accepted]


def run(installation: Installation, batch_id: str, **options) -> dg.ExecuteInProcessResult:
    installation.instance.add_dynamic_partitions(request_batches.name, [batch_id])
    return dg.materialize(
        ASSETS, partition_key=batch_id, instance=installation.instance, resources=installation.resources, **options
    )


@pytest.fixture
def digest(installation, tiny_folder) -> str:
    return serve(installation, tiny_folder)


def test_a_batch_is_answered_and_says_what_came_of_it(installation, tiny_folder, digest) -> None:
    ids = submit(installation, tiny_folder, digest)
    batch = installation.store.seal_batch(ids, 600)
    result = run(installation, batch.id)
    assert result.success

    requests = [installation.store.request(one) for one in ids]
    assert [request.state for request in requests] == ["done", "done"]
    for request in requests:
        assert decode_mp4(installation.store.read_video(request.video)).shape == (16, 64, 64, 3)
        provenance = installation.store.video(request.video).provenance
        assert provenance["dagster_run"] == result.run_id
        assert provenance["version_digest"] == digest
        assert provenance["target"] == "cpu"
    assert installation.store.batch(batch.id).state == "finished"

    made = {event.asset_key.to_user_string(): event for event in result.get_asset_materialization_events()}
    assert all(event.partition == batch.id for event in made.values())
    metadata = {key: event.materialization.metadata for key, event in made.items()}
    assert metadata["request_batch"]["batch/requests"].value == 2
    videos = metadata["generated_videos"]
    assert videos["batch/published"].value == 2
    assert videos["preview"].md_str.startswith("![") and "image/webp" in videos["preview"].md_str
    assert Path(videos["player"].value).read_text().count("data:video/mp4") == 2
    assert {row.data["state"] for row in videos["videos"].records} == {"done"}
    assert metadata["batch_quality"]["quality/videos"].value == 2
    assert Path(metadata["batch_quality"]["contact_sheet"].value).read_bytes().startswith(b"\x89PNG")


def test_a_batch_of_a_version_that_never_passed_is_refused_and_its_requests_stay(installation, tiny_folder) -> None:
    digest = build_manifest(tiny_folder).digest
    ids = submit(installation, tiny_folder, digest)
    batch = installation.store.seal_batch(ids, 600)
    result = run(installation, batch.id, raise_on_error=False)
    assert not result.success
    (failure,) = [e for e in result.all_node_events if e.is_step_failure]
    assert "never passed its gates" in failure.event_specific_data.user_failure_data.description
    assert {installation.store.request(one).state for one in ids} == {"assigned"}


def test_running_a_finished_batch_again_makes_nothing_new(installation, tiny_folder, digest) -> None:
    ids = submit(installation, tiny_folder, digest)
    batch = installation.store.seal_batch(ids, 600)
    run(installation, batch.id)
    before = [installation.store.request(one).video for one in ids]
    again = run(installation, batch.id)
    assert again.success
    (videos,) = [
        e.materialization.metadata
        for e in again.get_asset_materialization_events()
        if e.asset_key.path[-1] == "generated_videos"
    ]
    assert videos["batch/published"].value == 0
    assert [installation.store.request(one).video for one in ids] == before


@pytest.mark.parametrize("backend_url", ["redis", "aerospike"], indirect=True)
def test_the_lane_runs_unchanged_on_a_server(installation, tiny_folder, backend_url, monkeypatch) -> None:
    monkeypatch.setenv("VIDEOGEN_STORE_URL", backend_url)
    ids = submit(installation, tiny_folder, serve(installation, tiny_folder))
    batch = installation.store.seal_batch(ids, 600)
    assert run(installation, batch.id).success
    requests = [installation.store.request(one) for one in ids]
    assert {request.state for request in requests} == {"done"}
    assert {len(decode_mp4(installation.store.read_video(request.video))) for request in requests} == {16}
    assert not (installation.home / "store").exists()
