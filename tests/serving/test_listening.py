"""How `videogen serve` listens."""

import asyncio
import resource
import socket
import subprocess
import sys

import pytest

from videogen.errors import InvalidRequest
from videogen.serving.server import OPEN_FILES, _listen


def test_answers_leave_at_once_rather_than_wait_for_an_acknowledgement():
    async def scenario() -> int:
        accepted: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            ours = writer.get_extra_info("socket")
            accepted.set_result(ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))

        listening = _listen("127.0.0.1", 0)
        async with await asyncio.start_server(connected, sock=listening):
            _, writer = await asyncio.open_connection(*listening.getsockname())
            found = await accepted
            writer.close()
        return found

    assert asyncio.run(scenario()) != 0


def test_a_port_that_is_taken_is_named():
    with _listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(InvalidRequest, match=rf"--http-port: got {port}"):
            _listen("127.0.0.1", port)


def test_it_may_open_as_many_files_as_its_connections_need():
    code = "from videogen.serving.server import _allow_files as allow; import resource; allow(); allow();"
    code += "print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])"
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    few = ["sh", "-c", 'ulimit -Sn 256; exec "$@"', "-", sys.executable, "-c", code]
    told = subprocess.run(few, capture_output=True, text=True, timeout=60)
    assert told.returncode == 0, told.stderr
    assert int(told.stdout) == (OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard))
