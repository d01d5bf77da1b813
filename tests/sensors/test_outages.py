"""A real store that hangs or is killed under sensors and drains: they say so, go on, and nothing is lost."""

import re
import signal
import threading
import time
from collections.abc import Callable, Iterator

import dagster as dg
import numpy as np
import pytest
from safetensors.numpy import save_file

from resources.registry import RegistryResource
from resources.store import StoreResource
from sensors.failed_runs import failed_batch_runs, settle_missed
from sensors.model_versions import new_model_versions
from sensors.outages import own_cursor
from sensors.requests import read_cursor, waiting_requests
from tests.fixtures.servers import redis_server, send
from tests.sensors.making import submit
from videogen.drain import drain
from videogen.errors import StoreUnavailable
from videogen.generate import Clip, Timings
from videogen.registry import ModelRegistry
from videogen.store.store import Store

DURABLE = ("--appendonly", "yes", "--appendfsync", "always")


class Server:
    """A Redis that keeps what it was told, and may be taken away in two ways."""

    def __init__(self, folder, how: str) -> None:
        self.folder, self.how = folder, how
        self.context = redis_server(folder, *DURABLE)
        self.url, self.process = self.context.__enter__()

    def take_away(self) -> None:
        if self.how == "hangs":
            send(self.process, signal.SIGSTOP)
        else:
            self.process.kill()
            self.process.wait()

    def bring_back(self) -> None:
        if self.how == "hangs":
            send(self.process, signal.SIGCONT)
        else:
            self.context = redis_server(self.folder, *DURABLE, port=int(self.url.rpartition(":")[2]))
            self.process = self.context.__enter__()[1]


@pytest.fixture(params=["hangs", "is killed"])
def server(request, tmp_path) -> Iterator[Server]:
    server = Server(tmp_path, request.param)
    yield server
    send(server.process, signal.SIGCONT)
    server.context.__exit__(None, None, None)


@pytest.fixture
def store(server) -> Iterator[Store]:
    with Store.open(server.url) as store:
        yield store


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


def tick(server, instance, cursor) -> dg.SensorResult:
    resources = {"store": StoreResource(url=server.url)}
    with dg.build_sensor_context(instance=instance, cursor=cursor, resources=resources) as context:
        return waiting_requests(context)


def patiently(attempt: Callable[[], object]) -> object:
    """What `attempt` gives once it gives something: a server that comes back needs a moment, a burst is waited for."""
    deadline = time.monotonic() + 30
    while not (found := attempt()):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    return found


def test_the_request_sensor_says_that_the_store_is_away_and_goes_on(server, store, instance):
    before = tick(server, instance, None)
    ids = submit(store, 2)
    server.take_away()
    first = tick(server, instance, before.cursor)
    assert first.run_requests == []
    host = server.url.removeprefix("redis://")
    said = re.match(r"The store does not answer since (\S+Z): .*", first.skip_reason.skip_message)
    assert said and host in said[0]
    time.sleep(1.1)
    second = tick(server, instance, first.cursor)
    assert f"since {said[1]}: " in second.skip_reason.skip_message
    assert read_cursor(own_cursor(second.cursor)) == read_cursor(before.cursor)
    server.bring_back()
    cursor, launched = second.cursor, []

    def again() -> bool:
        nonlocal cursor
        result = tick(server, instance, cursor)
        cursor = result.cursor
        launched.extend(result.run_requests)
        return bool(launched)

    patiently(again)
    assert "since" not in cursor
    (run,) = launched
    assert sorted(store.batch(run.partition_key).request_ids) == sorted(ids)
    assert tick(server, instance, cursor).run_requests == []


def failed_run(instance, batch) -> dg.ExecuteInProcessResult:
    @dg.op
    def breaks() -> None:
        raise RuntimeError("the device is gone")

    @dg.job(tags={"dagster/partition": batch.id, "videogen/attempt": f"{batch.attempt}"})
    def batch_job() -> None:
        breaks()

    return batch_job.execute_in_process(instance=instance, raise_on_error=False)


def told(server, instance, result) -> str:
    base = dg.build_run_status_sensor_context(
        "failed_batch_runs",
        dagster_event=result.get_run_failure_event(),
        dagster_instance=instance,
        dagster_run=result.dagster_run,
        resources={"store": StoreResource(url=server.url)},
    )
    with base as context:
        return failed_batch_runs(context.for_run_failure()).skip_message


@pytest.mark.parametrize("is_claimed", [True, False], ids=["it drained", "it never started"])
def test_what_a_run_held_that_failed_during_the_outage_comes_back_after_it(server, store, instance, is_claimed):
    ids = submit(store, 2)
    batch = store.seal_batch(ids, time_limit_s=3600)
    result = failed_run(instance, batch)
    if is_claimed:
        store.claim(batch.id, holder=result.run_id, lease_s=3600)
    server.take_away()
    said = told(server, instance, result)
    assert "The store does not answer" in said and result.run_id in said
    server.bring_back()
    (run,) = patiently(lambda: tick(server, instance, None).run_requests)
    assert (run.partition_key, run.tags["videogen/attempt"]) == (batch.id, "2")
    again = store.batch(batch.id)
    assert (again.state, again.attempt, sorted(again.request_ids)) == ("sealed", 2, sorted(ids))
    assert len(store.claim(batch.id, holder="next", lease_s=60)) >= 1


def test_a_batch_that_was_sealed_again_is_not_taken_from_its_next_run(server, store, instance):
    batch = store.seal_batch(submit(store, 1), time_limit_s=3600)
    failed_run(instance, batch)
    store.give_back(batch.id, "test")
    assert store.seal_batch(batch.request_ids, 3600).attempt == 2
    assert [run.partition_key for run in tick(server, instance, None).run_requests] == [batch.id]
    assert store.batch(batch.id).state == "sealed"


def test_a_batch_that_another_drains_is_left_to_it(server, store, instance):
    batch = store.seal_batch(submit(store, 1), time_limit_s=3600)
    failed_run(instance, batch)
    store.claim(batch.id, holder="by hand", lease_s=3600)
    assert settle_missed(store, instance) == [] and store.batch(batch.id).state == "running"


class OneColour:
    """Clips of one colour, 0.2 s each, so that an outage falls between them."""

    def __init__(self) -> None:
        self.made = 0

    def generate(self, requests, on_progress=None):
        for request in requests:
            time.sleep(0.2)
            self.made += 1
            frames = np.full((2, 16, 16, 3), request.request.seed, np.uint8)
            yield Clip(request, frames, Timings(0.0, 0.2, 0.0, 1, True))


def encode(frames, fps) -> bytes:
    return frames.tobytes()


def test_a_drain_outlasts_an_outage_that_is_shorter_than_its_leases(server, store):
    ids = submit(store, 8)
    batch = store.seal_batch(ids, time_limit_s=60)
    generator = OneColour()
    away = threading.Timer(0.5, server.take_away)
    back = threading.Timer(3.0, server.bring_back)
    away.start()
    back.start()
    report = drain(store, batch.id, generator, holder="run", provenance={}, encode=encode, lease_s=60.0, wave=4)
    away.join()
    back.join()
    assert len(report.published) == 8 and generator.made == 8
    assert store.batch(batch.id).state == "finished"
    assert {store.request(one).state for one in ids} == {"done"}


def test_a_drain_that_ends_by_an_outage_loses_nothing(server, store):
    ids = submit(store, 4)
    batch = store.seal_batch(ids, time_limit_s=60)
    threading.Timer(0.3, server.take_away).start()
    with pytest.raises(StoreUnavailable):
        drain(store, batch.id, OneColour(), holder="run", provenance={}, encode=encode, lease_s=1.0, wave=1)
    server.bring_back()

    def is_back() -> bool:
        try:
            store.recover()
        except StoreUnavailable:
            return False
        return store.batch(batch.id).state == "returned"

    patiently(is_back)
    left = [record.id for record in store.requests() if record.state != "done"]
    assert left and {record.id for record in store.waiting()} == set(left)
    again = store.seal_batch(left, 60.0)
    report = drain(store, again.id, OneColour(), holder="next", provenance={}, encode=encode)
    assert {store.request(one).state for one in ids} == {"done"} and len(report.published) == len(left)


def test_the_version_sensor_says_that_the_store_is_away_and_goes_on(server, instance, mlflow_uri, tmp_path):
    model = tmp_path / "model"
    model.mkdir()
    save_file({"weight": np.zeros(8)}, model / "weights.safetensors")
    registry = ModelRegistry(mlflow_uri)

    def look(cursor: str | None) -> dg.SensorResult:
        resources = {"registry": RegistryResource(tracking_uri=mlflow_uri), "store": StoreResource(url=server.url)}
        with dg.build_sensor_context(instance=instance, cursor=cursor, resources=resources) as context:
            return new_model_versions(context)

    registry.register("tiny", model)
    before = look(None)
    assert [run.partition_key for run in before.run_requests] == ["tiny@1"]
    save_file({"weight": np.ones(8)}, model / "weights.safetensors")
    registry.register("tiny", model)
    server.take_away()
    away = look(before.cursor)
    assert away.run_requests == [] and server.url.removeprefix("redis://") in away.skip_reason.skip_message
    assert "does not answer since" in away.skip_reason.skip_message and own_cursor(away.cursor) == before.cursor
    server.bring_back()
    (run,) = patiently(lambda: look(away.cursor).run_requests)
    assert run.partition_key == "tiny@2"
