"""Real servers that a test may stop, kill and start again, and patience with them."""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from tests.fixtures.servers import aerospike_server, redis_server, send
from videogen.errors import StoreUnavailable

CONFIG = (Path(__file__).resolve().parents[2] / "deploy" / "aerospike" / "development.conf").read_text()
Found = TypeVar("Found")


@dataclass
class Server:
    """A real server that a test may do anything to. It keeps nothing on disk: killed, it comes back empty."""

    url: str
    send: Callable[[signal.Signals], object]
    kill: Callable[[], object]
    start: Callable[[], object]


@contextmanager
def server_of(kind: str, folder: Path) -> Iterator[Server]:
    """A "redis" or an "aerospike" in `folder`. Skips where there is none."""
    folder.mkdir(exist_ok=True)
    if kind == "aerospike":
        config = CONFIG.replace("storage-engine device {", "storage-engine memory {")
        on_disk = ("file ", "flush", "read-page-cache")
        lines = [line for line in config.splitlines() if not line.strip().startswith(on_disk)]
        with aerospike_server("\n".join(lines).replace("filesize 2G", "data-size 512M"), folder) as node:
            yield Server(node.url(), node.send, node.stop, node.start)
        return
    with redis_server(folder) as (url, process):
        running = [process]
        port = int(url.rpartition(":")[2])
        contexts = []

        def kill() -> None:
            running[-1].kill()
            running[-1].wait()

        def start() -> None:
            contexts.append(redis_server(folder, port=port))
            running.append(contexts[-1].__enter__()[1])

        def send_it(what: signal.Signals) -> None:
            send(running[-1], what)

        yield Server(url, send_it, kill, start)
        for context in contexts:
            context.__exit__(None, None, None)


def patiently(work: Callable[[], Found], seconds: float = 15.0) -> Found:
    """Tries until a server that was started again takes part."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return work()
        except StoreUnavailable:
            assert time.monotonic() < deadline
            time.sleep(0.1)


def until(holds: Callable[[], bool], seconds: float = 30.0) -> None:
    """Waits until something holds, also while servers do not answer."""
    deadline = time.monotonic() + seconds
    while not patiently(holds, seconds):
        assert time.monotonic() < deadline
        time.sleep(0.1)
