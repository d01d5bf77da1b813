"""Engine processes and replicas are killed under load: no accepted job is lost, and none published twice."""

import os
import signal
import time
from contextlib import ExitStack

import pytest

from tests.fixtures.servers import redis_server
from tests.serving.load import Load
from tests.serving.running import serving
from tests.soak.page import Row, write_row

TIMES = [2, pytest.param(20, marks=[pytest.mark.soak, pytest.mark.timeout(900)])]
SECONDS = 60.0


def is_whole(outcome) -> bool:
    return outcome.lost == outcome.twice == outcome.changed == 0 < outcome.answered


@pytest.mark.slow
@pytest.mark.parametrize("times", TIMES)
def test_killed_engine_processes_lose_nothing_and_the_service_answers_meanwhile(tmp_path, times):
    with serving(tmp_path, None, "--log-format", "json") as one:
        started = time.monotonic()
        with Load(tmp_path / "journal", one, callers=4) as load:
            for _ in range(times):
                load.until_ended(6)
                killed = one.engine()
                os.kill(killed, signal.SIGKILL)
                assert one.ask("/healthz") == {"live": True}
                one.engine(after=killed)
            load.until_ended(6)
        seconds = time.monotonic() - started
        assert one.ask("/readyz")["ready"]
    outcome = load.outcome()
    assert is_whole(outcome), outcome
    if times > 2:
        write_row(Row(f"kill -9 of the engine process, {times} times", seconds, outcome))


@pytest.mark.slow
@pytest.mark.parametrize("times", TIMES)
def test_killed_replicas_work_is_finished_by_the_other(tmp_path, times):
    with redis_server(tmp_path) as (url, _), ExitStack() as running:

        def start(number):
            name = f"replica-{number}"
            return running.enter_context(serving(tmp_path / name, url, "--log-format", "json", name=name))

        replicas = [start(0), start(1)]
        started = time.monotonic()
        with Load(tmp_path / "journal", *replicas, callers=4) as load:
            for number in range(times):
                load.until_ended(6)
                gone = replicas.pop(0)
                gone.process.kill()
                gone.process.wait()
                load.remove(gone)
                load.until_ended(2)
                replicas.append(start(number + 2))
                load.add(replicas[-1])
            load.until_ended(6)
        seconds = time.monotonic() - started
    outcome = load.outcome()
    assert is_whole(outcome), outcome
    if times > 2:
        write_row(Row(f"kill -9 of one of two replicas, {times} times", seconds, outcome))
