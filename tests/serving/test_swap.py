"""The champion changes under load: real networks, a real store, real sockets."""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tests.fixtures import champions
from tests.serving.in_process import CALLER, end_of
from tests.serving.load import Load
from tests.serving.running import serving
from videogen.client.sync import Client
from videogen.devices import cpu
from videogen.serving.changes import Changes
from videogen.serving.engine.messages import EngineConfig
from videogen.serving.making.maker import Maker
from videogen.serving.service import Service
from videogen.serving.versions.preparing import prepare
from videogen.serving.versions.served import Versions
from videogen.serving.versions.swapping import Swapper
from videogen.store.store import Store

pytestmark = [pytest.mark.slow, pytest.mark.timeout(480)]
SECONDS = 90.0


@pytest.fixture(scope="module")
def versions(tmp_path_factory, shared_artifacts):
    """Three versions: two that answer, and one whose decoder knows one colour only."""
    root, artifacts = tmp_path_factory.mktemp("versions"), shared_artifacts
    one, two = (champions.version(artifacts, root / str(number), number) for number in (1, 2))
    champions.write_random_tiny(root / "3", seed=3)
    weights = root / "3" / "vae" / "diffusion_pytorch_model.safetensors"
    save_file({name: np.zeros_like(of) for name, of in load_file(weights).items()}, weights, {"format": "pt"})
    return SimpleNamespace(artifacts=artifacts, one=one, two=two, grey=champions.kept(artifacts, root / "3", 3))


@pytest.fixture(scope="module")
def served(versions, tmp_path_factory):
    """A service of version 1, and the store that it follows."""
    home = tmp_path_factory.mktemp("served")
    with Store.open(f"embedded:{home}/store") as store:
        champions.promote(store, versions.one)
        url = versions.artifacts.url
        with serving(home, None, "--log-format", "json", synthetic=False, VIDEOGEN_ARTIFACTS_URL=url) as service:
            yield SimpleNamespace(service=service, store=store)
        assert service.process.returncode == 0, service.log.read_text()


def until(what):
    deadline = time.monotonic() + SECONDS
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def stats(service):
    with Client(f"127.0.0.1:{service.grpc}") as client:
        return client.stats()


def admitted(service):
    return next(one["digest"] for one in stats(service)["versions"] if one["admitted"])


def offered(service):
    """The versions in the order in which both faces tell them, and whether each is the champion."""
    told = [(one["id"], one["champion"]) for one in service.ask("/v1/models")["data"]]
    with Client(f"127.0.0.1:{service.grpc}") as client:
        assert [model.version for model in client.models()] == [label for label, _ in told]
    assert service.ask("/v1/models/videogen-tiny")["id"] == told[0][0]
    return told


def figure(service, name):
    return next(
        float(line.split()[-1])
        for line in service.text("/metrics").splitlines()
        if line.startswith(f"videogen_{name} ")
    )


def test_a_new_champion_takes_over_under_load_and_a_rollback_loads_nothing(served, versions, tmp_path):
    service = served.service
    with Load(tmp_path, service) as load:
        load.until_ended(3)
        champions.promote(served.store, versions.two)
        until(lambda: admitted(service) == versions.two.version_digest)
        assert offered(service) == [(versions.two.label, True), (versions.one.label, False)]
        took, gap = (figure(service, f"swap_{name}seconds") for name in ("", "longest_gap_"))
        assert 0 < gap <= took
        load.until_ended(5)
        loads = service.log.read_text().count("loading the engine")
        with Client(f"127.0.0.1:{service.grpc}") as client:
            back = client.rollback()
        assert (back["before"], back["serving"]) == (versions.two.label, versions.one.label)
        assert offered(service) == [(versions.one.label, True), (versions.two.label, False)]
        assert 0 < back["longest_gap_s"] <= back["seconds"]
        load.until_ended(5)
        assert service.log.read_text().count("loading the engine") == loads == 2
    outcome = load.outcome()
    assert (outcome.failed, outcome.lost, outcome.changed, outcome.twice, outcome.refused) == (0, 0, 0, 0, 0)
    answered = [note.facts["version"] for note in load.ends]
    assert set(answered) == {versions.one.version_digest, versions.two.version_digest}
    assert answered[-1] == versions.one.version_digest
    assert figure(service, 'swaps_total{outcome="succeeded"}') == 2
    assert 0 < figure(service, "swap_longest_gap_seconds") <= figure(service, "swap_seconds")


def test_a_champion_that_cannot_be_served_leaves_the_old_one_in_service(served, versions, tmp_path):
    service = served.service
    assert admitted(service) == versions.one.version_digest
    with Load(tmp_path, service, callers=1) as load:
        champions.promote(served.store, versions.grey)
        until(lambda: stats(service)["warnings"])
        (told,) = stats(service)["warnings"]
        assert "the champion is not served" in told and "one colour" in told
        assert service.ask("/readyz") == {"ready": True, "reasons": [], "warnings": [told]}
        assert admitted(service) == versions.one.version_digest
        load.until_ended(3)
        served.store.rollback(champions.MODEL)
        until(lambda: not stats(service)["warnings"])
    assert {note.facts["version"] for note in load.ends} == {versions.one.version_digest}
    assert load.outcome().failed == 0
    assert versions.grey.version_digest not in {one["digest"] for one in stats(service)["versions"]}
    assert 'videogen_swaps_total{outcome="failed"} 1.0' in service.text("/metrics")


@asynccontextmanager
async def without_room(versions, folder):
    """A service of version 1 in this process, where there is never room for two."""
    with ThreadPoolExecutor(4) as executor, Store.open(f"embedded:{folder}/store") as store:
        champions.promote(store, versions.one)
        url = versions.artifacts.url
        config = EngineConfig(artifacts_url=url, artifacts_cache=url, streams=1, batch_max=2)
        maker = Maker(store, config, Versions(), Changes(), "me", executor)
        get = partial(prepare, store=store, artifacts=versions.artifacts, device=cpu())
        swapper = Swapper(maker, champions.MODEL, get, lambda digest, loaded, pid: False)
        service = Service(maker, swapper=swapper)
        await maker.start(*get(champions.MODEL))
        swapper.generation = store.champion_generation(champions.MODEL)
        yield service
        await service.stop(5.0)


async def answered(service, seed):
    job = await service.submit({"prompt": "a red ring", "seed": seed}, CALLER)
    return await end_of(service, job.id)


def test_without_room_for_both_the_old_one_ends_its_work_and_comes_back_if_the_new_one_fails(versions, tmp_path):
    async def run():
        async with without_room(versions, tmp_path) as service:
            swapper, store = service.admin.swapper, service.store
            jobs = [asyncio.create_task(answered(service, seed)) for seed in range(8)]
            await asyncio.sleep(0.05)
            champions.promote(store, versions.two)
            swap = asyncio.create_task(swapper.look())
            while not swap.done():
                jobs.append(asyncio.create_task(answered(service, len(jobs))))
                await asyncio.sleep(0.2)
            await swap
            ends = await asyncio.gather(*jobs)
            assert {end.status for end in ends} == {"completed"}
            assert {end.label for end in ends} == {versions.one.label, versions.two.label}
            assert list(service.versions.loaded) == [versions.two.version_digest] and not service.readiness.warnings
            champions.promote(store, versions.grey)
            swap = asyncio.create_task(swapper.look())
            while service.versions.current.label != versions.grey.label:
                await asyncio.sleep(0.01)
            meanwhile = asyncio.create_task(answered(service, 1000))
            await swap
            assert service.readiness.ready and "one colour" in service.readiness.warnings[0]
            assert service.versions.current.label == versions.two.label
            assert (await answered(service, 1001)).status == "completed"
            went_on = await meanwhile
            assert (went_on.status, went_on.label) == ("completed", versions.two.label)
            assert "there is no room for both" in service.readiness.warnings[0] and not swapper.retries.is_due

    asyncio.run(run())
