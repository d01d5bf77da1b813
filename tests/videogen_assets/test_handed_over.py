"""A batch run hands its batch to a real service of the champion and needs no device; without one it makes it itself."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from resources.gpu import DeviceResource
from tests.fixtures.servers import free_port
from tests.serving.running import Serve, serving
from tests.videogen_assets.conftest import Installation
from tests.videogen_assets.test_batch_lane import run, serve, submit
from videogen.device_leases import lease_device
from videogen.devices import find_devices
from videogen.media.mp4 import decode_mp4


@pytest.fixture
def digest(installation, tiny_folder) -> str:
    return serve(installation, tiny_folder)


@pytest.fixture
def service(installation, digest, monkeypatch) -> Iterator[Serve]:
    with serving(installation.home, synthetic=False) as one:
        monkeypatch.setenv("VIDEOGEN_SERVICE_URL", f"127.0.0.1:{one.grpc}")
        yield one


@contextmanager
def taken(folder: Path) -> Iterator[None]:
    """The device, by somebody who wants it alone."""
    with lease_device(find_devices()[:1], "exclusive", folder, purpose="measuring", wait_s=60):
        yield


def told(result: dg.ExecuteInProcessResult) -> Mapping[str, Any]:
    (made,) = [e for e in result.get_asset_materialization_events() if e.asset_key.path[-1] == "generated_videos"]
    return {name: value.value for name, value in made.materialization.metadata.items()}


def answered(installation: Installation, ids: list[str]) -> list[Mapping[str, Any]]:
    """What the videos say of how they were made."""
    records = [installation.store.request(one) for one in ids]
    assert [record.state for record in records] == ["done"] * len(ids)
    assert all(decode_mp4(installation.store.read_video(record.video)).shape == (16, 64, 64, 3) for record in records)
    return [installation.store.video(record.video, record.generation).provenance for record in records]


@pytest.mark.slow
def test_the_service_makes_the_batch_and_the_run_needs_no_device(installation, tiny_folder, digest, service, tmp_path):
    busy = DeviceResource(locks=str(tmp_path / "locks"), wait_seconds=0.0)
    installation.resources["device"] = busy
    ids = submit(installation, tiny_folder, digest)
    with taken(tmp_path / "locks"):
        result = run(installation, installation.store.seal_batch(ids, 600).id)
    metadata, served = told(result), installation.store.champion("videogen-tiny").targets["cpu"]
    assert metadata["made by"] == f"service 127.0.0.1:{service.grpc}"
    assert metadata["engine"] == f"cpu fp32 {served.engine_key}" and metadata["batch/published"] == 2
    for made in answered(installation, ids):
        assert made["dagster_run"] == made["holder"] == result.run_id and made["version_digest"] == digest
        assert made["engine"] == served.engine_key and made["device_seconds"] > 0

    # Who wants the service's own device alone gets it; the run waits with the service, holding nothing of the device.
    later = submit(installation, tiny_folder, digest, ["a small red ring moving left on a black background"])
    with ExitStack() as held:
        held.enter_context(taken(installation.home / "devices"))
        threading.Timer(5.0, held.close).start()
        waited = run(installation, installation.store.seal_batch(later, 600).id)
    assert told(waited)["made by"] == metadata["made by"]
    answered(installation, later)


def test_without_an_answer_the_run_makes_it_itself_and_says_why(installation, tiny_folder, digest, monkeypatch):
    address = f"127.0.0.1:{free_port()}"
    monkeypatch.setenv("VIDEOGEN_SERVICE_URL", address)
    ids = submit(installation, tiny_folder, digest)
    metadata = told(run(installation, installation.store.seal_batch(ids, 600).id))
    assert metadata["made by"].startswith(f"this run, not service {address}: it does not answer")
    assert all("service" not in made for made in answered(installation, ids))
