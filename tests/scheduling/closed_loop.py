"""Callers who ask again as soon as they are answered, under a simulated clock, served by the real scheduler."""

import heapq
import itertools
import random
from dataclasses import dataclass, field

from videogen.scheduling.costs import Affine
from videogen.scheduling.forecast import Forecast
from videogen.scheduling.holding import MEMORY_S, WorthHolding
from videogen.scheduling.job import Job
from videogen.scheduling.run import Hold
from videogen.scheduling.scheduler import Scheduler


@dataclass(frozen=True, slots=True)
class Closed:
    """`callers` who come back `back_s` after their answer, on average `jitter_s` later than that, which is exponential;
    the answers of a batch leave together, `each_s` for each later."""

    callers: int
    steps: int = 4
    back_s: float = 0.012
    each_s: float = 0.001
    costs: Affine = field(default_factory=lambda: Affine(0.04, 0.005))
    jitter_s: float = 0.0
    deadline_s: float | None = None

    def ideal(self) -> float:
        """Videos a second if answering and asking took no time."""
        batch = min(self.callers, self.costs.largest)
        return batch / (self.steps * self.costs.step("k", batch, 1))


@dataclass(frozen=True, slots=True)
class Came:
    """Videos a second; seconds of the device for which batches were held; how many missed their deadlines."""

    rate: float
    held_s: float
    missed: int


def closed_loop(load: Closed, *, hold: bool, seconds: float = 60.0) -> Came:
    holding = WorthHolding(Forecast(MEMORY_S), load.costs) if hold else None
    scheduler, ids, orders = Scheduler(load.costs, holding=holding), itertools.count(), itertools.count()
    comes = [(load.each_s * number, next(orders)) for number in range(load.callers)]
    heapq.heapify(comes)
    chance = random.Random(1)
    run = wake = since = None
    now = ends = answers = held_s = 0.0
    done = missed = 0
    while now < seconds:
        now = min(time for time in (ends if run else None, wake, comes[0][0] if comes else None) if time is not None)
        if run and now == ends:
            ended = scheduler.stepped(run, now - since, now)
            answers = max(answers, now) + len(ended) * load.each_s
            for job in ended:
                done += 1
                missed += job.deadline is not None and now > job.deadline + 1e-9
                later = chance.expovariate(1 / load.jitter_s) if load.jitter_s else 0.0
                heapq.heappush(comes, (answers + load.back_s + later, next(orders)))
            run = None
        while comes and comes[0][0] <= now:
            heapq.heappop(comes)
            deadline = None if load.deadline_s is None else now + load.deadline_s
            scheduler.add(Job(str(next(ids)), "k", load.steps, arrived=now, deadline=deadline), now)
        if run is None:
            if wake is not None:
                held_s += now - since
            choice, wake, since = scheduler.next(now), None, now
            if isinstance(choice, Hold):
                wake = choice.until
            elif choice:
                run, ends = choice, now + choice.steps * load.costs.step("k", len(choice.jobs), 1)
    return Came(done / now, held_s, missed)
