"""The section on gRPC in docs/serving.md, done as written: each call as grpcurl makes it, and the Python."""

import json
import os
import re
import shlex
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import json_format
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from tests.serving.grpc.process import served

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "serving.md"
WRITTEN = "127.0.0.1:50051"


def section() -> str:
    return re.search(r"^## gRPC\n(.*?)(?=^## |\Z)", PAGE.read_text(), re.MULTILINE | re.DOTALL)[1]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with served(tmp_path_factory.mktemp("serve")) as address:
        yield address


class Grpcurl:
    """What grpcurl does with `-plaintext [-d JSON] ADDRESS [list | describe NAME | METHOD]`, over reflection."""

    def __init__(self, channel: grpc.Channel) -> None:
        self.channel = channel
        self.database = ProtoReflectionDescriptorDatabase(channel)
        self.pool = DescriptorPool(self.database)

    def run(self, words: list[str]) -> list[Any]:
        assert words[0] == "-plaintext"
        data = words[words.index("-d") + 1] if "-d" in words else "{}"
        rest = words[words.index(WRITTEN) + 1 :]
        if rest == ["list"]:
            return list(self.database.get_services())
        if rest[0] == "describe":
            return [method.name for method in self.pool.FindServiceByName(rest[1]).methods]
        return self.call(*rest[0].split("/"), json.loads(data))

    def call(self, service: str, name: str, data: Any) -> list[Any]:
        method = self.pool.FindServiceByName(service).FindMethodByName(name)
        asked, answer = GetMessageClass(method.input_type), GetMessageClass(method.output_type)
        path, request = f"/{service}/{name}", json_format.ParseDict(data, asked())
        ways = (asked.SerializeToString, answer.FromString)
        if method.server_streaming:
            answers = list(self.channel.unary_stream(path, *ways)(request, timeout=240))
        else:
            answers = [self.channel.unary_unary(path, *ways)(request, timeout=240)]
        return [json_format.MessageToDict(item) for item in answers]


@contextmanager
def grpcurl(answer: Callable[[list[str]], list[Any]], folder: Path) -> Iterator[str]:
    """A PATH with a grpcurl whose words `answer` hears, and whose output are the objects that it gives."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            words = self.rfile.read(int(self.headers["content-length"])).decode().split("\0")[:-1]
            body = "\n".join(json.dumps(one, indent=2) for one in answer(words)).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        command = folder / "grpcurl"
        command.write_text(
            f"#!/bin/sh\nprintf '%s\\0' \"$@\" | curl -sf --data-binary @- 127.0.0.1:{server.server_port}\n"
        )
        command.chmod(0o755)
        try:
            yield f"{folder}:{os.environ['PATH']}"
        finally:
            server.shutdown()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_call_is_answered_where_videos_take_a_tenth_of_a_second(shipped, tmp_path):
    blocks = re.findall(r"^```sh\n(.*?)^```$", section(), re.MULTILINE | re.DOTALL)
    written = "".join(blocks).replace("127.0.0.1:8000", f"127.0.0.1:{shipped.http}")
    answers: dict[str, list[Any]] = {}
    with grpc.insecure_channel(f"127.0.0.1:{shipped.grpc}") as channel:
        real = Grpcurl(channel)

        def answer(words: list[str]) -> list[Any]:
            found = answers[words[-1].rpartition("/")[2]] = real.run(words)
            return found

        with grpcurl(answer, tmp_path) as path:
            script = ["bash", "-euo", "pipefail", "-c", written]
            environment = {**os.environ, "PATH": path}
            ran = subprocess.run(script, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=400)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "videogen.v1.VideoService" in answers["list"]
    assert answers["Check"] == [{"status": "SERVING"}]
    kinds = [next(iter(part)) for part in answers["Generate"]]
    assert kinds[0] == "progress" and kinds[-1] == "finished" and "chunk" in kinds
    assert kinds == sorted(kinds, key=["progress", "chunk", "finished"].index)
    assert answers["Watch"][-1]["job"]["status"] == "JOB_STATUS_COMPLETED"
    assert sum(len(part.get("chunk", "")) for part in answers["Content"]) == 16  # 12 bytes in base64
    assert answers["Change"][0]["job"]["changes"][0]["prompt"] == "a green circle moving right"
    assert answers["Remix"][0]["job"]["spec"]["prompt"] == "a blue circle moving right"
    assert len(answers["List"][0]["jobs"]) == 10
    assert answers["Stats"][0]["stats"]["ready"] is True
    assert len(answers) >= 14


def test_the_readme_s_call_is_answered(address):
    readme = (ROOT / "README.md").read_text()
    (line,) = re.findall(r"^grpcurl (.*)$", readme, re.MULTILINE)
    with grpc.insecure_channel(address) as channel:
        answered = Grpcurl(channel).run(shlex.split(line))
    assert answered[-1]["finished"]["status"] == "JOB_STATUS_COMPLETED"


def test_the_python_runs(address, tmp_path):
    blocks = re.findall(r"^```python\n(.*?)^```$", section(), re.MULTILINE | re.DOTALL)
    told = []
    for block in blocks:
        assert WRITTEN in block
        code = block.replace(WRITTEN, address)
        ran = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120)
        assert ran.returncode == 0, ran.stderr
        told.append(ran.stdout)
    assert len(told) == 3 and "width 65" in told[0] and "completed 1.0" in told[0]
    assert told[2].startswith("8 4\nTrue\n2 {'num_inference_steps': 8} {'draft': ")
    assert {path.name for path in tmp_path.glob("*.mp4")} == {"circle.mp4", "video-0.mp4", "video-1.mp4"}
    assert all(b"ftyp" in path.read_bytes()[:12] for path in tmp_path.glob("*.mp4"))


ALONE = """
import importlib.metadata
import sys

class Left:
    owners = importlib.metadata.packages_distributions()

    def find_spec(self, name, path=None, target=None):
        owners = self.owners.get(name.partition(".")[0])
        if owners and not %r & set(owners):
            raise ModuleNotFoundError(f"{name} is not installed", name=name)

sys.meta_path.insert(0, Left())
%s
"""
"""As if nothing but these packages were installed."""


def test_the_client_runs_on_what_its_own_installation_names(address, tmp_path):
    (line,) = re.findall(r"^pip install ('grpcio.*)$", section(), re.MULTILINE)
    (extra,) = re.findall(r"^client = \[\n(.*?)^\]$", (ROOT / "pyproject.toml").read_text(), re.MULTILINE | re.DOTALL)
    servers = "grpcio-status"  # what the server alone imports; `google` is the name of two of the others
    assert set(shlex.split(line)) == {one for one in re.findall(r'"(.*?)"', extra) if not one.startswith(servers)}
    named = {re.match(r"[\w-]+", one)[0] for one in shlex.split(line)} | {"videogen", "typing_extensions"}
    code = re.findall(r"^```python\n(.*?)^```$", section(), re.MULTILINE | re.DOTALL)[0].replace(WRITTEN, address)
    alone = [sys.executable, "-c", ALONE % (named, code)]
    ran = subprocess.run(alone, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0 and (tmp_path / "circle.mp4").is_file(), ran.stderr
