"""Requests for a simulation: when they arrive, of which kind, and which repeat an earlier one. The same for a seed."""

import math
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from videogen.scheduling.job import Priority

RECENT = 1000
"""A repeat is of one of so many latest requests."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One class of requests. `share` is its weight among all; `deadline_s` counts from arrival."""

    name: str
    steps: int
    share: float = 1.0
    key: str = "default"
    priority: Priority = "standard"
    deadline_s: float | None = None


@dataclass(frozen=True, slots=True)
class Request:
    at: float
    kind: Kind
    repeats: int | None = None
    """The number of the request that it repeats, counted from 0 in order of arrival."""


def poisson(rate: float, seconds: float, seed: int) -> Iterator[float]:
    """Times of arrivals, `rate` a second, independent of each other."""
    chance, now = random.Random(seed), 0.0
    while rate > 0 and (now := now + chance.expovariate(rate)) < seconds:
        yield now


def bursty(
    rate: float, seconds: float, seed: int, *, times: float = 5.0, burst_s: float = 2.0, every_s: float = 10.0
) -> Iterator[float]:
    """`rate` a second on average; bursts of about `burst_s`, one in about `every_s`, come `times` as fast as the rest.

    Lengths of bursts and of pauses are exponential: a two-state Markov-modulated Poisson process.
    """
    chance, end, share = random.Random(seed), 0.0, burst_s / every_s
    quiet = rate / (share * times + 1 - share)
    bursts = False
    while end < seconds:
        now, end = end, end + chance.expovariate(1 / (burst_s if bursts else every_s - burst_s))
        speed = quiet * (times if bursts else 1)
        while speed > 0 and (now := now + chance.expovariate(speed)) < min(end, seconds):
            yield now
        bursts = not bursts


def requests(
    times: Iterable[float], kinds: Sequence[Kind], *, repeats: float = 0.0, seed: int = 0
) -> Iterator[Request]:
    """One request for each time; the share `repeats` of them ask what one of the latest asked."""
    if not (kinds and all(kind.share >= 0 for kind in kinds) and math.fsum(kind.share for kind in kinds) > 0):
        raise ValueError("kinds: none has a share; allowed: shares of 0 or more, one above 0")
    chance, recent, shares = random.Random(seed), [], [kind.share for kind in kinds]
    for number, at in enumerate(times):
        if recent and chance.random() < repeats:
            original, kind = recent[chance.randrange(len(recent))]
            yield Request(at, kind, original)
            continue
        kind = chance.choices(kinds, shares)[0]
        if len(recent) < RECENT:
            recent.append((number, kind))
        else:
            recent[number % RECENT] = (number, kind)
        yield Request(at, kind)
