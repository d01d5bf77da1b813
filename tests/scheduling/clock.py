"""A simulated device: what the scheduler says is run, and the clock moves by what it costs."""

import heapq
import itertools
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from videogen.scheduling.costs import Costs
from videogen.scheduling.job import Job
from videogen.scheduling.run import Hold, Run
from videogen.scheduling.scheduler import Scheduler


@dataclass
class Played:
    """What happened: runs with their start and end, the end of each job, time that streams idled while jobs waited."""

    runs: list[tuple[float, float, Run]] = field(default_factory=list)
    ended: dict[str, float] = field(default_factory=dict)
    started: dict[str, float] = field(default_factory=dict)
    held: list[tuple[float, float]] = field(default_factory=list)
    idled: list[float] = field(default_factory=list)


def play(
    scheduler: Scheduler,
    arrivals: Iterable[Job],
    costs: Costs,
    *,
    until: float = math.inf,
    at: Iterable[tuple[float, Callable[[], object]]] = (),
    before: Callable[[float], object] = lambda now: None,
    after: Callable[[float, Run | Hold | None], object] = lambda now, choice: None,
) -> Played:
    """Plays until nothing is left or the clock says `until`. `at` are calls at their times; `before` and `after` see
    every question to the scheduler."""
    played, now, orders = Played(), 0.0, itertools.count()
    events: list[tuple[float, int, str, object]] = [
        *((job.arrived, next(orders), "add", job) for job in sorted(arrivals, key=lambda job: job.arrived)),
        *((time, next(orders), "call", call) for time, call in at),
    ]
    heapq.heapify(events)
    busy, wake = 0, 0.0
    while events or busy or len(scheduler):
        now = min(events[0][0] if events else math.inf, wake)
        assert now < math.inf, "jobs wait and nothing will ever happen"
        if now > until:
            break
        wake = math.inf
        while events and events[0][0] <= now:
            _, _, what, thing = heapq.heappop(events)
            if what == "add":
                scheduler.add(thing, now)
            elif what == "call":
                thing()
            else:
                start, run = thing
                busy -= 1
                played.runs.append((start, now, run))
                for job in scheduler.stepped(run, now - start, now):
                    assert job.id not in played.ended
                    played.ended[job.id] = now
        while busy < scheduler.streams:
            before(now)
            choice = scheduler.next(now)
            after(now, choice)
            if isinstance(choice, Hold):
                assert choice.until > now
                wake = choice.until
                played.held.append((now, choice.until))
                break
            if choice is None:
                if scheduler.waiting:
                    played.idled.append(now)
                break
            busy += 1
            for job in choice.jobs:
                played.started.setdefault(job.id, now)
            seconds = choice.steps * costs.step(choice.jobs[0].key, len(choice.jobs), busy)
            heapq.heappush(events, (now + seconds, next(orders), "end", (now, choice)))
    return played
