"""Memory stays flat over many requests: both processes, each request a video of its own that is fetched.

Half of them come over HTTP, half over gRPC. The service keeps no videos in memory meanwhile: that would hide a leak.
"""

import http.client
import json
import statistics
import threading
import time
from collections.abc import Callable

import psutil
import pytest

from tests.serving.running import Serve, serving
from tests.soak.page import Row, write_row
from videogen.client.sync import Client

CALLERS = 16
MIB = 2**20
REQUESTS = [
    pytest.param(240, 100_000, id="240"),
    pytest.param(10_000, 2_000, id="10000", marks=[pytest.mark.soak, pytest.mark.timeout(900)]),
]
"""How many, and the bytes to each by which memory may grow: a leak of a video would be ten times the first.

The second has room for what the service notes of its last 20,000 jobs, and for no record of one.
"""


@pytest.mark.slow
@pytest.mark.parametrize(("requests", "most_each"), REQUESTS)
def test_memory_is_flat(tmp_path, requests, most_each):
    with serving(tmp_path, None, VIDEOGEN_STORE_CACHE_BYTES="0") as service:
        processes = [psutil.Process(service.process.pid), psutil.Process(service.engine())]
        samples: list[tuple[int, list[int]]] = []
        sizes: list[int] = []
        started = time.monotonic()
        threads = [
            threading.Thread(target=FACES[first % 2], args=(service, range(first, requests, CALLERS), sizes))
            for first in range(CALLERS)
        ]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            samples.append((len(sizes), [process.memory_info().rss for process in processes]))
            time.sleep(0.05)
        seconds = time.monotonic() - started
    assert len(sizes) == requests and min(sizes) > 1000
    growth = [_growth(samples, requests, process) for process in (0, 1)]
    assert max(later - earlier for earlier, later in growth) < most_each * requests / 4, growth
    if requests > 1000:
        memory = tuple(f"{earlier / MIB:.1f} → {later / MIB:.1f}" for earlier, later in growth)
        write_row(Row(f"{requests:,} requests", seconds, answered=requests, memory=memory))


def _growth(samples, requests, process) -> tuple[float, float]:
    """The median in the third quarter of the requests, and in the last."""

    def median(when: Callable[[float], bool]) -> float:
        return statistics.median(memory[process] for done, memory in samples if when(done / requests))

    return median(lambda share: 0.5 <= share < 0.75), median(lambda share: share >= 0.75)


def _over_http(service: Serve, seeds: range, sizes: list[int]) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", service.http, timeout=120)
    for seed in seeds:
        body = json.dumps({"prompt": "a red ring", "seed": seed, "num_inference_steps": 1})
        connection.request("POST", "/v1/videos/sync", body, {"content-type": "application/json"})
        answer = connection.getresponse()
        video = answer.read()
        sizes.append(len(video) if answer.status == 200 else 0)
    connection.close()


def _over_grpc(service: Serve, seeds: range, sizes: list[int]) -> None:
    with Client(f"127.0.0.1:{service.grpc}") as client:
        for seed in seeds:
            video = client.generate("a red ring", seed=seed, num_inference_steps=1)
            sizes.append(len(video.data))


FACES = (_over_http, _over_grpc)
