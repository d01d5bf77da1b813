"""`videogen top` against a real gRPC server with real keys, on figures of a real overview."""

import asyncio
import json
import os
import pty
import select
import signal
import subprocess
import sys
import threading
import time

import pytest
from typer.testing import CliRunner

from tests.fixtures.servers import free_port
from tests.serving.test_metrics import ended, submitted
from videogen.cli import app
from videogen.serving.access import Access
from videogen.serving.grpc.server import GrpcServer
from videogen.serving.limits import Limits
from videogen.serving.telemetry.observing import Load
from videogen.serving.telemetry.overview import Overview
from videogen.settings import ServingLimits
from videogen.store.store import Store

PROGRAM = "from videogen.cli import app; app()"


class Figures:
    """Of a core, what `top` asks for."""

    ready = True

    def __init__(self) -> None:
        self.admin = self.readiness = self
        self.overview = overview = Overview()
        for cache in ("hit", "miss", "miss", "miss"):
            overview.submitted(submitted(cache=cache))
        for seconds in (0.25, 0.25, 4.5):
            overview.ended(ended(ended_at=100.0 + seconds))
        overview.refused("rate_limited")
        for _ in range(12):
            overview.stepped(4, 100, 0.06)
        overview.stepped(12, 1, 0.09)
        overview.loaded(Load({"interactive": 2, "batch": 12_345}, 4, 61.5, (0.75, 1.0), ready=True))
        overview.swapped(True, 6.0, 6.0)
        overview.swapped(True, 2.5, 0.125)
        overview.restarted()

    async def stats(self):
        return {**self.overview.as_plain(), "reasons": []}


@pytest.fixture
def store(tmp_path):
    with Store.open(f"embedded:{tmp_path / 'store'}") as store:
        yield store


@pytest.fixture
def address(store):
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    def wait(work):
        return asyncio.run_coroutine_threadsafe(work, loop).result(30)

    async def start():
        access = Access(store.api_keys)
        server = GrpcServer(Figures(), access, Limits(store.rate_limits, access, ServingLimits()), port=0)
        await server.start()
        return server

    server = wait(start())
    yield f"127.0.0.1:{server.port}"
    wait(server.stop(0))
    loop.call_soon_threadsafe(loop.stop)
    thread.join(30)
    loop.close()


def run(*arguments: str, **environment: str):
    return CliRunner().invoke(app, ["top", *arguments], env=environment)


def test_one_look_fits_into_80_columns_and_says_it_all(address):
    done = run("--address", address, "--once", COLUMNS="80")
    assert done.exit_code == 0, done.output
    assert max(map(len, done.output.splitlines())) <= 80
    told = " ".join(done.output.split())
    for part in (
        "engine ready, 1 restart",
        "75% busy",
        "100% busy",
        "2 interactive, 0 standard, 12,345 batch",
        "61.5 s of work wait, 4 being made",
        "4 accepted: 1 hit, 3 miss",
        "3 ended: 3 completed",
        "1 refused: 1 rate limited",
        "25% of what was accepted was not made again",
        "1,200 of 4, 1 of 12; a step takes 60 ms (p50)",
        "interactive p50 250 ms, p95 4.50 s to a video",
        "2 done, 0 failed; the last took 2.50 s, at most 125 ms of it without a step, idle or not",
    ):
        assert part in told


def test_figures_as_json(address):
    found = json.loads(run("--address", address, "--json").output)
    assert found["engine"]["waiting"] == {"interactive": 2, "batch": 12345}
    assert found["last_minute"]["batches"]["4"] == 1200


def test_keys_are_needed_once_there_are_some_and_the_error_says_which(address, store):
    text, _ = store.api_keys.create("acme")
    admin, _ = store.api_keys.create("acme", ["admin"])
    refused = run("--address", address, "--once")
    assert refused.exit_code == 1 and "VIDEOGEN_API_KEY" in refused.stderr
    refused = run("--address", address, "--once", VIDEOGEN_API_KEY=text)
    assert refused.exit_code == 1 and "--scope admin" in refused.stderr
    assert run("--address", address, "--once", "--api-key", admin).exit_code == 0


def test_no_service_is_one_clear_line():
    done = run("--address", f"127.0.0.1:{free_port()}", "--once")
    assert done.exit_code == 1 and done.stderr.count("\n") == 1
    assert "is it running? start it with: videogen serve" in done.stderr


def test_it_is_live_until_ctrl_c(address):
    terminal, theirs = pty.openpty()
    command = [sys.executable, "-c", PROGRAM, "top", "--address", address, "--every", "0.2"]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "80", "LINES": "24"}
    shown, deadline = "", time.monotonic() + 60
    with subprocess.Popen(command, stdout=theirs, stderr=theirs, stdin=theirs, env=environment) as process:
        os.close(theirs)
        try:
            while shown.count("being made") < 3 and time.monotonic() < deadline:
                if select.select([terminal], [], [], 1)[0]:
                    shown += os.read(terminal, 65536).decode(errors="replace")
            process.send_signal(signal.SIGINT)
            while process.poll() is None and time.monotonic() < deadline:
                if select.select([terminal], [], [], 0.2)[0]:
                    try:
                        shown += os.read(terminal, 65536).decode(errors="replace")
                    except OSError:  # the other end is closed
                        break
            code = process.wait(30)
        finally:
            process.kill()
            os.close(terminal)
    assert shown.count("being made") >= 3 and code == 0, shown
    assert "Traceback" not in shown
