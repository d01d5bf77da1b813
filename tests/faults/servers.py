"""The servers that the fault suite stops, kills and starts again, with the settings that its rows name."""

import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.fixtures.servers import Node, aerospike_server, free_port, redis_server, send

CONFIGS = Path(__file__).resolve().parents[2] / "deploy" / "aerospike"
DEVELOPMENT = (CONFIGS / "development.conf").read_text()


class Servers(ABC):
    """What keeps a store. `count` servers, which one names by 0 up to `count`."""

    url: str
    count = 1

    @abstractmethod
    def send(self, which: int, what: signal.Signals) -> None: ...

    @abstractmethod
    def kill(self, which: int) -> float:
        """Gives the time just before it."""

    @abstractmethod
    def start(self, which: int) -> None:
        """Returns when it serves again."""

    def settle(self) -> None:  # noqa: B027 - one server alone has nothing to do
        """Returns when each has caught up with the others."""


class NoServer(Servers):
    """The embedded store's."""

    count = 0

    def __init__(self, folder: Path) -> None:
        self.url = f"embedded:{folder / 'store'}"

    def send(self, which: int, what: signal.Signals) -> None:
        raise AssertionError("there is no server")

    def kill(self, which: int) -> float:
        raise AssertionError("there is no server")

    def start(self, which: int) -> None:
        raise AssertionError("there is no server")


class Redis(Servers):
    def __init__(self, stack: ExitStack, folder: Path, options: Sequence[str]) -> None:
        self._stack, self._folder, self._options, self._port = stack, folder, options, free_port()
        self.start(0)

    def start(self, which: int) -> None:
        server = redis_server(self._folder, *self._options, port=self._port)
        self.url, self._process = self._stack.enter_context(server)

    def send(self, which: int, what: signal.Signals) -> None:
        send(self._process, what)

    def kill(self, which: int) -> float:
        at = time.monotonic()
        self._process.kill()
        self._process.wait()
        return at


class Aerospike(Servers):
    def __init__(self, nodes: Sequence[Node], options: str = "") -> None:
        self._nodes, self.count = nodes, len(nodes)
        hosts = ",".join(f"127.0.0.1:{node.port}" for node in nodes)
        self.url = f"aerospike://{hosts}/videogen{options}"
        self.settle()

    def send(self, which: int, what: signal.Signals) -> None:
        self._nodes[which].send(what)

    def kill(self, which: int) -> float:
        self.settle()  # one is lost at a time
        at = time.monotonic()
        self._nodes[which].stop()
        return at

    def start(self, which: int) -> None:
        self._nodes[which].start()

    def settle(self) -> None:
        deadline = time.monotonic() + 120
        while not all(self._has_caught_up(node) for node in self._nodes):
            assert time.monotonic() < deadline, "the nodes do not find each other"
            time.sleep(0.1)

    def _has_caught_up(self, node: Node) -> bool:
        """Does the node see all the others, and is nothing under way between them?"""
        import aerospike
        from aerospike import exception

        try:
            client = aerospike.client({"hosts": [("127.0.0.1", node.port)], "validate_keys": True})
            answers = [answer for _, (_, answer) in client.info_all("statistics").items()]
            client.close()
        except exception.AerospikeError:  # it, or one that it has heard of, is not reached yet
            return False
        facts = [dict(pair.partition("=")[::2] for pair in (answer or "").strip().split(";")) for answer in answers]
        return len(facts) == self.count and all(
            one.get("cluster_size") == str(self.count) and one.get("migrate_partitions_remaining") == "0"
            for one in facts
        )


@contextmanager
def embedded(folder: Path) -> Iterator[Servers]:
    yield NoServer(folder)


@contextmanager
def redis(folder: Path, fsync: str) -> Iterator[Servers]:
    with ExitStack() as stack:
        yield Redis(stack, folder, ["--appendonly", "yes", "--appendfsync", fsync])


@contextmanager
def aerospike_memory(folder: Path) -> Iterator[Servers]:
    """One node that keeps nothing on disk."""
    on_disk = ("file ", "flush", "read-page-cache")
    lines = [line for line in DEVELOPMENT.splitlines() if not line.strip().startswith(on_disk)]
    config = "\n".join(lines).replace("storage-engine device", "storage-engine memory")
    with aerospike_server(config.replace("filesize 2G", "data-size 512M"), folder) as node:
        yield Aerospike([node])


@contextmanager
def aerospike_device(folder: Path, flush_max_ms: int) -> Iterator[Servers]:
    """One node as the configuration for development has it, on a file."""
    config = DEVELOPMENT.replace("flush-max-ms 10 ", f"flush-max-ms {flush_max_ms} ")
    assert f"flush-max-ms {flush_max_ms} " in config
    with aerospike_server(config, folder) as node:
        yield Aerospike([node])


@contextmanager
def aerospike_pair(folder: Path) -> Iterator[Servers]:
    """Two nodes as the configuration for production has them, two copies of everything; in a hurry to make them."""
    config = (CONFIGS / "production-ce.conf").read_text()
    config = config.replace("service {", "service {\n\tmigrate-threads 8", 1)
    config = config.replace("replication-factor 2", "replication-factor 2\n\tmigrate-sleep 0")
    with ExitStack() as stack:
        first = stack.enter_context(aerospike_server(config, folder / "a1", "a1"))
        second = stack.enter_context(aerospike_server(config, folder / "a2", "a2", seeds=(first.heartbeat,)))
        yield Aerospike([first, second], "?media=videogen_media")
