"""Memory stays flat over many requests: both processes, each request a video of its own that is fetched."""

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

CALLERS = 16
MIB = 2**20
REQUESTS = [
    pytest.param(240, 100_000, id="240"),
    pytest.param(10_000, 4_000, id="10000", marks=[pytest.mark.soak, pytest.mark.timeout(900)]),
]
"""How many, and the bytes to each by which memory may grow: a leak of a video would be ten times the first."""


@pytest.mark.slow
@pytest.mark.parametrize(("requests", "most_each"), REQUESTS)
def test_memory_is_flat(tmp_path, requests, most_each):
    with serving(tmp_path, None) as service:
        processes = [psutil.Process(service.process.pid), psutil.Process(service.engine())]
        samples: list[tuple[int, list[int]]] = []
        statuses: list[int] = []
        started = time.monotonic()
        threads = [
            threading.Thread(target=_call, args=(service, range(first, requests, CALLERS), statuses))
            for first in range(CALLERS)
        ]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            samples.append((len(statuses), [process.memory_info().rss for process in processes]))
            time.sleep(0.05)
        seconds = time.monotonic() - started
    assert statuses == [200] * requests
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


def _call(service: Serve, seeds: range, statuses: list[int]) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", service.http, timeout=120)
    for seed in seeds:
        body = json.dumps({"prompt": "a red ring", "seed": seed, "num_inference_steps": 1})
        connection.request("POST", "/v1/videos/sync", body, {"content-type": "application/json"})
        answer = connection.getresponse()
        answer.read()
        statuses.append(answer.status)
    connection.close()
