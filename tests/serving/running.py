"""`videogen serve` as a real process, mostly on a device without networks."""

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.local.processes import listens
from tests.fixtures.servers import free_port

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 60.0


@dataclass
class Serve:
    """One replica."""

    process: subprocess.Popen[bytes]
    http: int
    grpc: int
    log: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http}"

    def ask(self, path: str, body: Any = None, method: str | None = None, **headers: str) -> Any:
        """The JSON of an answer, a refusal's too."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"content-type": "application/json"} | {name.replace("_", "-"): of for name, of in headers.items()}
        request = urllib.request.Request(self.url + path, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            return json.load(error)

    def text(self, path: str) -> str:
        with urllib.request.urlopen(self.url + path, timeout=30) as answer:
            return answer.read().decode()

    def submit(self, prompt: str, **fields: Any) -> str:
        answer = self.ask("/v1/videos", {"prompt": prompt, **fields})
        assert "id" in answer, answer
        return answer["id"]

    def end_of(self, video_id: str, seconds: float = SECONDS) -> dict[str, Any]:
        deadline = time.monotonic() + seconds
        while (job := self.ask(f"/v1/videos/{video_id}"))["status"] not in ("completed", "failed"):
            assert time.monotonic() < deadline, (job, self.log.read_text())
            time.sleep(0.05)
        return job

    def engine(self, after: int | None = None, seconds: float = SECONDS) -> int:
        """The pid of its engine process, once there is one that is not `after`."""
        deadline = time.monotonic() + seconds
        while True:
            children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
            for child in children:
                cmdline = Path(f"/proc/{child}/cmdline")
                if int(child) != after and cmdline.exists() and "serving.engine" in cmdline.read_text():
                    return int(child)
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.02)


@contextmanager
def serving(
    home: Path,
    store: str | None = None,
    *options: str,
    name: str = "serve",
    synthetic: bool = True,
    seconds: float = SECONDS,
    **environment: str,
) -> Iterator[Serve]:
    """A replica, ready within `seconds`, on a synthetic device or with the champion's networks; SIGTERM ends it."""
    home.mkdir(parents=True, exist_ok=True)
    http, grpc, log = free_port(), free_port(), home / f"{name}.log"
    ours = {"VIDEOGEN_HOME": str(home), "PYTHONPATH": str(ROOT), **environment}
    ours |= {"VIDEOGEN_STORE_URL": store} if store else {}
    code = "from videogen.cli import app; app()"
    command = [sys.executable, "-c", code, "serve", "--http-port", str(http), "--grpc-port", str(grpc)]
    command += ["--synthetic"] if synthetic else []
    with log.open("w") as output:
        process = subprocess.Popen([*command, *options], env={**os.environ, **ours}, stdout=output, stderr=output)
    try:
        deadline = time.monotonic() + seconds
        while not (listens(http) and listens(grpc)):
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        yield Serve(process, http, grpc, log)
    finally:
        process.terminate()
        try:
            process.wait(60)
        finally:
            process.kill()
