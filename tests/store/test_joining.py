"""One video wanted by several processes at once: one makes it, the others follow, leave, and take over if it dies."""

import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.store.builders import accepted
from videogen.store.store import Store

ROOT = Path(__file__).resolve().parents[2]
Start = Callable[..., subprocess.Popen]

pytestmark = pytest.mark.parametrize("backend_url", ["embedded", "redis", "aerospike"], indirect=True)


@pytest.fixture
def start(backend_url: str) -> Iterator[Start]:
    """Starts a `tests.store.joiner` and returns when it has submitted its request."""
    started: list[subprocess.Popen] = []

    def one(role: str, name: str = "") -> subprocess.Popen:
        command = [sys.executable, "-m", "tests.store.joiner", backend_url, role, name]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        started.append(subprocess.Popen(command, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"}, **pipes))
        assert hears(started[-1])[0] == "submitted"
        return started[-1]

    yield one
    for process in started:
        process.kill()
        process.wait()
        process.stdin.close(), process.stdout.close()


def hears(process: subprocess.Popen) -> list[str]:
    return process.stdout.readline().split()


def rest(process: subprocess.Popen) -> list[str]:
    """What it says until it ends by itself."""
    said = process.stdout.read().splitlines()
    assert process.wait(60) == 0
    return said


def digest(video: str) -> str:
    return hashlib.sha256(video.encode()).hexdigest()


def test_others_follow_leave_and_get_the_result(start, store):
    leader = start("lead")
    assert hears(leader) == ["leads", "1"]
    waiters = [start("wait", f"waiter-{n}") for n in range(2)]
    assert [hears(waiter) for waiter in waiters] == [["sees", "0.25"]] * 2
    assert rest(start("leave")) == ["running 0.25", "cancelled"]
    leader.stdin.write("go on\n")
    leader.stdin.flush()
    assert rest(leader) == [f"published {digest('of the first leader')}"]
    assert [rest(waiter) for waiter in waiters] == [[f"done {digest('of the first leader')} 1"]] * 2
    states = sorted(record.state for record in store.requests())
    assert states == ["cancelled", "done", "done", "done"]


def test_a_waiter_takes_over_from_a_leader_that_was_killed(start, store):
    leader = start("lead")
    assert hears(leader) == ["leads", "1"]
    waiters = [start("wait", f"waiter-{n}") for n in range(3)]
    assert [hears(waiter)[0] for waiter in waiters] == ["sees"] * 3
    leader.send_signal(signal.SIGKILL)
    said = [rest(waiter) for waiter in waiters]
    (heir,) = [number for number, lines in enumerate(said) if "takes over 2" in lines]
    made = f"done {digest(f'of waiter-{heir}')} 2"
    assert [lines[-1] for lines in said] == [made] * 3, "one video, and it answers everybody"
    assert [record.state for record in store.requests()] == ["done"] * 4, "the dead leader's request is answered too"
    assert store.submit(accepted(7)).video == digest(f"of waiter-{heir}")


def test_a_leader_that_wakes_up_too_late_is_refused(start, store):
    leader = start("lead")
    assert hears(leader) == ["leads", "1"]
    leader.send_signal(signal.SIGSTOP)
    waiter = start("wait", "waiter")
    leader.stdin.write("go on\n")
    leader.stdin.flush()
    assert rest(waiter)[-2:] == ["takes over 2", f"done {digest('of waiter')} 2"]
    leader.send_signal(signal.SIGCONT)
    assert rest(leader) == ["refused"]
    assert {record.video for record in store.requests()} == {digest("of waiter")}
    assert store.read_video(digest("of waiter")) == b"of waiter"


@pytest.fixture
def store(records) -> Store:
    return Store(records)
