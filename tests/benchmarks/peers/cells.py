"""What is measured of one system at one load."""

import itertools
import math
import random
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tests.benchmarks.peers.load import Answer, Wish, closed_loop, open_loop, quiet
from tests.benchmarks.peers.systems import Device, Running
from videogen.evaluation import evaluation_prompts
from videogen.scheduling.arrivals import poisson

SHORT, LONG, SHORT_SHARE = 4, 20, 0.8
WARM_S = 1.0
TOGETHER_S = 0.04
"""Answers that come so soon after each other are of one batch."""
Arrivals = Sequence[tuple[float, Wish]]
"""When each is to be sent, in seconds."""
SLO = 3.0
"""An answer is good within so many times what a video takes alone on the device."""


@dataclass(frozen=True, slots=True)
class Closed:
    """Videos a second; `cpu_ms` of all the system's processes for each."""

    rate: float
    failed: int
    cpu_ms: float


@dataclass(frozen=True, slots=True)
class Open:
    """`good`: a second, within the limit. Seconds of the short ones' answers; who got none waited for ever."""

    asked: int
    good: float
    answered: int
    short_p50: float
    short_p95: float
    long_p95: float


def wishes(steps: int, seed: int = 0) -> Iterator[Wish]:
    """Without end; no two are alike."""
    prompts = [one.prompt for one in evaluation_prompts(200)]
    for number in itertools.count(1000 * seed):
        yield Wish(prompts[number % len(prompts)], number, steps)


_numbers = itertools.count(1_000_000)


def unlike(wish: Wish) -> Wish:
    """One that was not asked for yet."""
    return Wish(wish.prompt, next(_numbers), wish.steps)


async def closed(running: Running, connections: int, seconds: float, steps: int = SHORT) -> Closed:
    """Throughput after a warm-up, of whole batches: from the last answer of one to the last answer of another."""
    given = map(unlike, wishes(steps))
    before = running.cpu_s()
    answers = await closed_loop(running.port, running.encode, given, connections, WARM_S + seconds)
    used = running.cpu_s() - before
    fine = [one for one in answers if not one.why]
    if not fine:
        return Closed(0.0, len(answers), math.nan)
    times = [one.ended for one in fine]
    begin = times[0] - fine[0].seconds + WARM_S
    first, last = max(1, _batch_end(times, begin)), _batch_end(times, begin + seconds)
    rate = (last - first) / max(1e-9, times[last - 1] - times[first - 1])
    return Closed(rate, len(answers) - len(fine), 1000 * used / len(answers))


def _batch_end(times: Sequence[float], at: float) -> int:
    """How many answers had come at `at`, and by the end of the batch that was being answered then."""
    count = bisect_right(times, at)
    while 0 < count < len(times) and times[count] - times[count - 1] < TOGETHER_S:
        count += 1
    return count


def arrivals(rate: float, seconds: float, seed: int, long_share: float = 0.0) -> list[tuple[float, Wish]]:
    """Poisson arrivals, of which `long_share` are long."""
    chance, given = random.Random(seed), wishes(SHORT)
    found = []
    for at in poisson(rate, seconds, seed):
        wish = next(given)
        steps = LONG if chance.random() < long_share else SHORT
        found.append((at, Wish(wish.prompt, wish.seed, steps)))
    return found


async def opened(running: Running, given: Arrivals, seconds: float, limits: dict[int, float]) -> Open:
    """An open loop, then a wait until the system is idle again. `limits`: by steps, the seconds of a good answer.

    Each run asks for videos of its own: who keeps what it made would answer a second run from there.
    """
    fresh = [(at, unlike(wish)) for at, wish in given]
    answers = await open_loop(running.port, running.encode, fresh, patience_s=2 * max(limits.values()))
    await quiet(running.port, running.encode, lambda: unlike(given[0][1]), soon_s=limits[SHORT] / SLO * 1.5)
    good = sum(not one.why and one.seconds <= limits[one.steps] for one in answers)
    return Open(
        len(answers),
        good / seconds,
        sum(not one.why for one in answers),
        percentile(answers, SHORT, 0.50),
        percentile(answers, SHORT, 0.95),
        percentile(answers, LONG, 0.95),
    )


def percentile(answers: Sequence[Answer], steps: int, share: float) -> float:
    found = sorted(math.inf if one.why else one.seconds for one in answers if one.steps == steps)
    return found[min(len(found) - 1, math.ceil(share * len(found)) - 1)] if found else math.nan


def ideal(device: Device, connections: int, steps: int = SHORT) -> float:
    """Videos a second that T(B) allows so many clients, if answering and asking took no time."""
    batch = min(connections, device.largest)
    return batch / (steps * device.step_s(batch))


def mix_ideal(device: Device) -> float:
    """As `ideal`, for the mix of short and long and clients enough."""
    steps = SHORT_SHARE * SHORT + (1 - SHORT_SHARE) * LONG
    return ideal(device, device.largest, 1) / steps
