"""The default model served by `videogen serve` on a store of its own, and what its processes take of the cores."""

import asyncio
import time
import urllib.request
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.benchmarks.shared import SHIPPED
from tests.fixtures import champions
from tests.serving.running import Serve, serving
from videogen.artifacts import Artifacts
from videogen.loads.answers import Answer
from videogen.loads.calls import Call
from videogen.loads.http import Http
from videogen.loads.measured import Measured
from videogen.loads.openloop import run
from videogen.store.records import Champion
from videogen.store.store import Store

MOST = 20_000
"""Streams of the tenant, and requests that may wait at once: more than any run has."""
START_S = 300.0
"""For warming and, the first time, timing every shape."""
STAGES = ("queue", "text", "step", "decode", "mp4", "publish")


def champion(home: Path) -> Champion:
    """The one that `home` serves; without one, the second version that ships, its engine built if there is none."""
    with Store.open(f"embedded:{home}/store") as store:
        found = store.champion(champions.MODEL)
    return found or champions.kept(Artifacts(str(home / "artifacts")), SHIPPED / "2", 2)


@contextmanager
def served(home: Path, folder: Path) -> Iterator[tuple[Serve, Champion]]:
    """A replica of that champion whose store, in `folder`, is empty."""
    version = champion(home)
    with Store.open(f"embedded:{folder}/store") as store:
        champions.promote(store, version)
    artifacts = {"VIDEOGEN_ARTIFACTS_URL": str(home / "artifacts")}
    with serving(folder, synthetic=False, seconds=START_S, VIDEOGEN_TENANT_STREAMS=str(MOST), **artifacts) as service:
        yield service, version


@dataclass(frozen=True, slots=True)
class Spent:
    """CPU seconds so far: of the engine process, of the API process's event loop, of its other threads."""

    engine: float
    loop: float
    others: float

    def since(self, before: "Spent") -> "Spent":
        return Spent(self.engine - before.engine, self.loop - before.loop, self.others - before.others)

    @property
    def whole(self) -> float:
        return self.engine + self.loop + self.others


def spent(service: Serve) -> Spent:
    def taken(process: psutil.Process) -> float:
        times = process.cpu_times()
        return times.user + times.system

    api = psutil.Process(service.process.pid)
    loop = next(one.user_time + one.system_time for one in api.threads() if one.id == api.pid)
    return Spent(taken(psutil.Process(service.engine())), loop, taken(api) - loop)


def stages(service: Serve) -> Counter[str]:
    """Seconds that jobs spent in each stage since the start, and under "jobs" how many there were."""
    found = Counter[str]()
    with urllib.request.urlopen(f"{service.url}/metrics") as answer:
        for line in answer.read().decode().splitlines():
            name, _, value = line.rpartition(" ")
            if name.startswith("videogen_stage_seconds_sum"):
                found[name.partition('stage="')[2].partition('"')[0]] += float(value)
            elif name.startswith("videogen_job_seconds_count"):
                found["jobs"] += float(value)
    return found


def play(url: str, calls: Iterable[Call], ask: Callable[[Http, Call], Awaitable[Answer]] | None = None) -> Measured:
    """An open loop over HTTP; `ask` what is asked instead of each call's own video."""

    async def whole() -> Measured:
        http = Http(url)

        async def own(call: Call) -> Answer:
            return await (ask(http, call) if ask else http.generate(call.fields))

        try:
            return await run(list(calls), own, most=MOST)
        finally:
            await http.close()

    return asyncio.run(whole())


class Hopeless(Exception):
    """More requests are late already than may be in the whole run."""


def held(url: str, calls: list[Call], slo_s: float) -> Measured | None:
    """As `play`, but ended early, with None, as soon as more than one in a hundred were late or had no video."""
    start, bad = time.monotonic(), 0

    async def ask(http: Http, call: Call) -> Answer:
        nonlocal bad
        answer = await http.generate(call.fields)
        bad += answer.outcome != "answered" or time.monotonic() - start - call.at > slo_s
        if bad > 0.01 * len(calls):
            raise Hopeless
        return answer

    measured = None
    try:
        measured = play(url, calls, ask)
    except* Hopeless:
        pass
    return measured
