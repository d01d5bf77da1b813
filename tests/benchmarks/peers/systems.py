"""The systems that are compared: how each is started with its settings, asked for a video, and ended."""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncGenerator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal, Protocol

import psutil

from tests.benchmarks.peers.load import HOST, Connection, Encode, Wish
from tests.benchmarks.shared import ARTIFACTS, ROOT, SERVING, SHIPPED
from tests.fixtures.servers import free_port

VERSION = "2"
START_S = 120.0
Layout = Literal["joint", "split", "priority"]


@dataclass(frozen=True, slots=True)
class Settings:
    """`layout`: short and long in one queue, in a queue and worker each, or in one where the short go first.

    `timeout_s`: what a peer may let a request wait before it drops it, and what videogen is told as the deadline; 0 is
    neither.
    """

    batch: int = 16
    wait_ms: int = 10
    layout: Layout = "joint"
    timeout_s: float = 0.0
    workers: int = 1

    def __str__(self) -> str:
        timeout = f", timeout {self.timeout_s:.2f} s" if self.timeout_s else ""
        workers = f", {self.workers} workers" if self.workers > 1 else ""
        layout = "" if self.layout == "joint" else f", {self.layout}"
        return f"batch {self.batch}, wait {self.wait_ms} ms{workers}{layout}{timeout}"


@dataclass(frozen=True, slots=True)
class Device:
    """What all serve on: the engine of the shipped model, or a device whose step takes `fixed_s` + `each_s`·B."""

    kind: Literal["synthetic", "engine"]
    fixed_s: float = 0.040
    each_s: float = 0.005
    largest: int = 16

    def step_s(self, batch: int) -> float:
        return self.fixed_s + self.each_s * batch


@dataclass(frozen=True, slots=True)
class Running:
    """A system that answers."""

    port: int
    encode: Encode
    process: subprocess.Popen[bytes]

    def cpu_s(self) -> float:
        """Seconds of CPU that its processes have used."""
        used = 0.0
        own = psutil.Process(self.process.pid)
        for one in (own, *own.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                times = one.cpu_times()
                used += times.user + times.system
        return used


class System(Protocol):
    name: str

    def command(self, settings: Settings, device: Device, port: int, folder: Path) -> tuple[list[str], dict[str, str]]:
        """What starts it, and the environment that it needs. `folder` is its own and empty."""
        ...

    def encode(self, settings: Settings, short: int) -> Encode:
        """How it is asked. A wish of up to `short` steps is a short one."""
        ...


def post(path: str, body: bytes, *headers: str) -> bytes:
    lines = [f"POST {path} HTTP/1.1", f"Host: {HOST}", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


JSON = "Content-Type: application/json"


@dataclass(frozen=True, slots=True)
class Peer:
    """A peer, in its own environment; its server is the module beside this one. Its batch worker blocks."""

    name: str
    python: Path

    def command(self, settings: Settings, device: Device, port: int, folder: Path) -> tuple[list[str], dict[str, str]]:
        told = asdict(settings) | {"device": device.kind, "fixed_s": device.fixed_s, "each_s": device.each_s}
        told |= {
            "port": port,
            "other_ports": (free_port(), free_port()),
            "model": str(SHIPPED / VERSION),
            "turn": str(folder / "turn"),
        }
        told |= {"sample": str(folder / "sample.mp4")}
        (folder / "sample.mp4").write_bytes(sample())
        ours = {"PEER": json.dumps(told), "PATH": f"{self.python.parent}:{os.environ['PATH']}"}
        if self.name == "mosec":
            most_ms = int(1000 * settings.timeout_s) or 600_000
            ours |= {"MOSEC_PORT": str(port), "MOSEC_ADDRESS": HOST, "MOSEC_TIMEOUT": str(most_ms)}
        return [str(self.python), "-m", f"tests.benchmarks.peers.{self.name}_server"], ours

    def encode(self, settings: Settings, short: int) -> Encode:
        if self.name == "pytriton":
            return lambda wish: _infer(wish, settings.layout, wish.steps <= short)
        joint = "/inference" if self.name == "mosec" else "/predict"

        def ask(wish: Wish) -> bytes:
            path = joint if settings.layout == "joint" else "/short" if wish.steps <= short else "/long"
            return post(path, json.dumps(asdict(wish)).encode(), JSON)

        return ask


def _infer(wish: Wish, layout: Layout, short: bool) -> bytes:
    """Triton's own HTTP protocol: inputs as JSON, the video as it is."""
    given = [("prompt", "BYTES", wish.prompt), ("seed", "INT64", wish.seed), ("steps", "INT64", wish.steps)]
    body = {
        "inputs": [{"name": name, "datatype": kind, "shape": [1, 1], "data": [value]} for name, kind, value in given],
        "outputs": [{"name": "mp4", "parameters": {"binary_data": True}}],
    }
    if layout == "priority":
        body["parameters"] = {"priority": 1 if short else 2}
    model = "videos" if layout != "split" else "short" if short else "long"
    return post(f"/v2/models/{model}/infer", json.dumps(body).encode(), JSON)


@dataclass(frozen=True, slots=True)
class Videogen:
    """`videogen serve` as a user starts it, its store on the disk; it takes no settings but the client's deadline."""

    name: str = "videogen"

    def command(self, settings: Settings, device: Device, port: int, folder: Path) -> tuple[list[str], dict[str, str]]:
        ours = {"VIDEOGEN_HOME": str(folder)}
        if device.kind == "engine":
            ours["VIDEOGEN_ARTIFACTS_URL"] = str(ARTIFACTS)
            _promote(folder)
        code = "from videogen.cli import app; app()"
        options = ["--http-port", str(port), "--grpc-port", "0"]
        options += ["--synthetic"] if device.kind == "synthetic" else []
        return [sys.executable, "-c", code, "serve", *options], ours

    def encode(self, settings: Settings, short: int) -> Encode:
        deadline = {"deadline": settings.timeout_s} if settings.timeout_s else {}

        def ask(wish: Wish) -> bytes:
            body = {"prompt": wish.prompt, "seed": wish.seed, "num_inference_steps": wish.steps, **deadline}
            return post("/v1/videos/sync", json.dumps(body).encode(), JSON)

        return ask


def _promote(home: Path) -> None:
    """Makes the shipped version the champion of a new store, on the engine that the peers load."""
    from videogen.artifacts import Artifacts
    from videogen.engines.builders import builder_for
    from videogen.engines.cache import ensure_engine
    from videogen.manifest import build_manifest
    from videogen.resolve import WEIGHTS
    from videogen.store.records import Champion, ServedEngine
    from videogen.store.store import Store

    folder, artifacts = SHIPPED / VERSION, Artifacts(str(ARTIFACTS))
    digest = build_manifest(folder).digest
    artifacts.build(WEIGHTS, digest, lambda scratch: shutil.copytree(folder, scratch, dirs_exist_ok=True))
    engine = ensure_engine(artifacts, folder, digest, builder_for(SERVING), "fp32").key.digest
    with Store.open(f"embedded:{home / 'store'}") as store:
        served = {"cpu": ServedEngine(engine, "fp32", "benchmark")}
        store.promote("videogen-tiny", Champion(digest, f"videogen-tiny@{VERSION}", served), 0)


def sample() -> bytes:
    """The video that `videogen serve --synthetic` answers with, for the peers to answer with it too."""
    from videogen.serving.engine.synthetic import sample as first

    return first(0)


@contextlib.asynccontextmanager
async def running(
    system: System, settings: Settings, device: Device, wish: Wish, folder: Path
) -> AsyncGenerator[Running]:
    """A system that has answered a wish of the short kind, in a folder of its own. Raises RuntimeError if it won't."""
    port = free_port()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    command, ours = system.command(settings, device, port, folder)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **ours}
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, env=environment, cwd=ROOT, stdout=log, stderr=log, start_new_session=True)
    try:
        encode = system.encode(replace(settings, timeout_s=0.0), wish.steps)
        end = time.monotonic() + START_S
        while not await _answers(port, encode, wish):
            if process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"{system.name} does not answer: {_last_words(folder / 'log')}")
            await asyncio.sleep(0.2)
        yield Running(port, system.encode(settings, wish.steps), process)
    finally:
        await asyncio.to_thread(_end, process)


async def _answers(port: int, encode: Encode, wish: Wish) -> bool:
    connection = Connection(port)
    try:
        return await asyncio.wait_for(connection.ask(encode(wish)), 30) == ""
    except (OSError, EOFError, TimeoutError):
        return False
    finally:
        connection.close()


def _last_words(log: Path) -> str:
    return " / ".join(log.read_text(errors="replace").strip().splitlines()[-3:])


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends its whole process group: servers leave children behind."""
    for number, patience in ((signal.SIGTERM, 8.0), (signal.SIGKILL, 5.0)):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(patience)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
