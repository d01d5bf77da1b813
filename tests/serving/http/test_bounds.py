"""What the HTTP face holds at once, on real sockets: connections, heads of requests, reads, and calls to the store."""

import asyncio
import json
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.fixtures.servers import redis_server, send
from tests.serving.http.serving import SLOW, running
from tests.serving.http.test_webhooks import until
from tests.serving.running import serving
from videogen.serving.http.connections import BoundedConnection
from videogen.settings import ServingLimits
from videogen.store.backends.memory import MemoryRecordStore
from videogen.store.rate_limits import RateLimit

WISH = {"prompt": "a red ball moves left", "num_inference_steps": 3}
HEALTH = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
MODELS = HEALTH.replace(b"/healthz", b"/v1/models")
ASKS = b"POST /v1/videos HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"
ENDS = (("POST", "/cancel"), ("DELETE", ""), ("DELETE", ""), ("DELETE", ""))
SECONDS = 30.0


class Few(BoundedConnection):
    most = 2


class Hasty(BoundedConnection):
    head_s = 0.5


def connected(server):
    return socket.create_connection(("127.0.0.1", server.port), timeout=SECONDS)


def answer(connection, request=HEALTH):
    """Status, headers and body of one answer."""
    connection.sendall(request)
    return read(connection)


def read(connection):
    told = b""
    while b"\r\n\r\n" not in told:
        more = connection.recv(65536)
        assert more, told
        told += more
    head, _, body = told.partition(b"\r\n\r\n")
    first, *lines = head.decode().lower().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    while len(body) < int(headers["content-length"]):
        body += connection.recv(65536)
    return int(first.split()[1]), headers, json.loads(body)


def is_closed(connection):
    return connection.recv(1) == b""


def test_a_connection_too_many_is_told_so_and_the_others_go_on():
    with running(connection=Few) as server, connected(server) as first, connected(server) as second:
        assert answer(first)[0] == answer(second)[0] == 200
        with connected(server) as third:
            status, headers, body = answer(third, ASKS)
            assert (status, body["error"]["code"]) == (503, "too_many_connections")
            assert int(headers["retry-after"]) >= 1 and headers["connection"] == "close" and is_closed(third)
        assert answer(first)[0] == answer(second)[0] == 200
        second.close()
        until(lambda: _is_let_in(server))


def _is_let_in(server):
    with connected(server) as another:
        return answer(another, MODELS)[0] == 200


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_a_service_that_is_full_says_that_it_lives(path):
    asks = f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    with running(connection=Few) as server, connected(server) as first, connected(server) as second:
        assert answer(first)[0] == answer(second)[0] == 200
        with connected(server) as probe:
            probe.sendall(asks[:9])
            status, headers, _ = answer(probe, asks[9:])
            assert (status, headers["connection"]) == (200, "close") and is_closed(probe)


def test_heads_that_come_too_slowly_are_not_waited_for():
    with running(connection=Hasty) as server, connected(server) as mute, connected(server) as slow:
        slow.sendall(HEALTH[:20])
        assert read(slow)[0] == 408 and is_closed(slow) and is_closed(mute)
        with connected(server) as kept:
            for pause in (0.0, 3 * Hasty.head_s):  # between two requests the keep-alive time-out holds, which is longer
                time.sleep(pause)
                assert answer(kept)[0] == 200
            kept.sendall(HEALTH[:20])
            assert read(kept)[0] == 408 and is_closed(kept)
        with connected(server) as body_later:
            body = json.dumps(WISH).encode()
            head = f"POST /v1/videos HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
            body_later.sendall(head.encode())
            time.sleep(3 * Hasty.head_s)
            assert answer(body_later, body)[0] == 200


def test_a_head_without_an_end_is_refused():
    with running() as server, connected(server) as endless:
        endless.sendall(HEALTH[:-2] + b"".join(b"x-%d: %s\r\n" % (n, b"y" * 1000) for n in range(70)))
        status, _, body = read(endless)
        assert (status, body["error"]["code"]) == (431, "head_too_large")


def test_sixty_four_connections_are_answered_on_each_again_and_again(server):
    async def ask() -> int:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.http)
        count = 0
        for _ in range(20):
            writer.write(b"GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n")
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length"))
            await reader.readexactly(int(length.split()[1]))
            count += head.startswith(b"HTTP/1.1 200")
        writer.close()
        return count

    async def all_of_them() -> list[int]:
        return await asyncio.gather(*(ask() for _ in range(64)))

    assert asyncio.run(asyncio.wait_for(all_of_them(), 60)) == [20] * 64


def test_looks_have_a_limit_of_their_own_and_say_what_is_left_of_it():
    limits = ServingLimits(tenant_reads=RateLimit.per_minute(0.01, burst=3))
    with running(limits=limits) as server, httpx.Client() as http:
        url = f"{server.url}/v1/videos"
        video_id = http.post(url, json=WISH).json()["id"]
        paths = ("", f"/{video_id}", "?limit=1")
        left = [http.get(url + path).headers["x-ratelimit-remaining-requests"] for path in paths]
        assert left == ["2", "1", "0"]
        looks = [("GET", ""), *(("GET", f"/{video_id}{what}") for what in ("", "/content", "/events"))]
        for method, path in looks:
            refused = http.request(method, url + path)
            assert (refused.status_code, refused.json()["error"]["code"]) == (429, "rate_limit_exceeded"), path
            assert int(refused.headers["retry-after"]) > 60 and refused.headers["x-ratelimit-limit-requests"] == "3"
        assert http.post(url, json=WISH).status_code == 200, "what is asked for is counted elsewhere"
        ends = [http.request(method, f"{url}/{video_id}{path}") for method, path in ENDS]
        assert [one.status_code for one in ends] == [200, 200, 404, 429], "who may not look may still cancel"


class Stuck(MemoryRecordStore):
    """Answers once its gate is open."""

    def __init__(self):
        super().__init__()
        self.gate = threading.Event()
        self.gate.set()

    def read_many(self, kind, keys, aged=False):
        self.gate.wait(SECONDS)
        return super().read_many(kind, keys, aged)


def test_a_bounded_number_of_calls_waits_for_the_store():
    records = Stuck()
    with running(records) as server, ThreadPoolExecutor(8) as callers:
        url = f"{server.url}/v1/videos/unknown"
        assert httpx.get(url).status_code == 404
        server.service.calls.most = 4
        records.gate.clear()
        waiting = [callers.submit(httpx.get, url, timeout=SECONDS) for _ in range(4)]
        refused = until(lambda: (one := _soon(url)) and one)
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "overloaded")
        assert int(refused.headers["retry-after"]) >= 1
        assert httpx.get(f"{server.url}/healthz").status_code == 200
        records.gate.set()
        assert {one.result().status_code for one in waiting} <= {404, 503}
        until(lambda: httpx.get(url).status_code == 404)


def test_who_goes_away_has_their_video_cancelled_however_many_others_ask():
    body = json.dumps(WISH | {"num_inference_steps": 50}).encode()
    head = f"POST /v1/videos/sync HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    with running(device=SLOW) as server:
        store = server.service.store
        with connected(server) as waiting:
            waiting.sendall(head + body)
            until(store.requests)
            server.service.calls.most = 0
        until(lambda: [one.state for one in store.requests()] == ["cancelled"])
        until(lambda: not server.service.work.in_hand)


def _soon(url):
    try:
        return httpx.get(url, timeout=2)
    except httpx.TimeoutException:
        return None


def test_all_who_ask_for_metrics_at_once_share_one_look():
    with running() as server, ThreadPoolExecutor(8) as callers:
        looks, gate = [], threading.Event()

        def expose():
            looks.append(1)
            gate.wait(SECONDS)
            return b"up 1\n", "text/plain"

        server.exposed = expose
        asked = [callers.submit(httpx.get, f"{server.url}/metrics", timeout=SECONDS) for _ in range(8)]
        until(lambda: looks)
        assert httpx.get(f"{server.url}/healthz").status_code == 200
        gate.set()
        assert {one.result().text for one in asked} == {"up 1\n"}
        assert len(looks) < 8
        more = len(looks)
        httpx.get(f"{server.url}/metrics")
        assert len(looks) == more + 1, "what is told is never old"


def test_a_service_that_ends_sends_whoever_asks_to_another():
    with running() as server, httpx.Client(base_url=server.url) as http:
        video_id = http.post("/v1/videos", json=WISH).json()["id"]
        server.service.readiness.draining = True
        for path in ("/v1/videos", "/v1/videos/sync", f"/v1/videos/{video_id}/remix"):
            refused = http.post(path, json=WISH)
            assert (refused.status_code, refused.json()["error"]["code"]) == (503, "draining")
            assert int(refused.headers["retry-after"]) >= 1 and refused.headers["connection"] == "close"
        assert http.get(f"/v1/videos/{video_id}").status_code == 200, "what was accepted can be had"
        server.service.readiness.draining = False


@pytest.mark.slow
def test_while_the_store_is_away_everybody_is_told_at_once_and_its_return_is_noticed(tmp_path):
    with redis_server(tmp_path) as (url, server), serving(tmp_path / "home", url) as service:
        video_id = service.submit("a red ring", seed=1)
        assert service.end_of(video_id)["status"] == "completed"
        send(server, signal.SIGSTOP)
        until(lambda: not service.ask("/readyz")["ready"])
        paths = ["/v1/videos", f"/v1/videos/{video_id}", f"/v1/videos/{video_id}/content"] * 24
        began = time.monotonic()
        with ThreadPoolExecutor(8) as callers:
            answers = list(callers.map(lambda path: httpx.get(service.url + path, timeout=60), paths))
        took = time.monotonic() - began
        assert {(one.status_code, one.json()["error"]["code"]) for one in answers} == {(503, "store_unavailable")}
        assert all(int(one.headers["retry-after"]) >= 1 for one in answers)
        assert took < 12, "waiting for the store, each caller's nine would take 3 s each"
        send(server, signal.SIGCONT)
        until(lambda: service.ask("/readyz")["ready"])
        assert service.ask(f"/v1/videos/{video_id}")["status"] == "completed"
