"""What a scheduling decision costs with few and many waiting, and its share of a step.

    python -m tests.benchmarks.scheduler_decision

Jobs are of 40 keys, 1,000 tenants, three classes, four numbers of steps, half of them with deadlines; as many arrive as
end. The device is synthetic: its step takes 40 + 5·B ms on the simulated clock; only the scheduler's own time is real.
It is also told as a share of what such a batch's step takes the shipped model, where its champion was measured here.
"""

import argparse
import random
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from itertools import count

from tests.benchmarks.shared import table, write
from videogen.commands.simulated import KEY, device
from videogen.errors import VideogenError
from videogen.scheduling.costs import Affine, Costs
from videogen.scheduling.job import CLASSES, Job
from videogen.scheduling.run import Run
from videogen.scheduling.scheduler import Scheduler

COSTS = Affine(0.04, 0.005)
OPERATIONS = ("next", "stepped", "add", "cancel", "work")
LIMIT_US = 200.0


class Load:
    """A scheduler with always so many waiting, and the microseconds of what was asked of it."""

    def __init__(self, waiting: int, shipped: Costs | None = None) -> None:
        self.scheduler, self.waiting, self.now = Scheduler(COSTS), waiting, 0.0
        self.shipped = shipped
        self.taken: dict[str, list[float]] = {name: [] for name in OPERATIONS}
        self.step_shares: list[float] = []
        self.shipped_shares: list[float] = []
        self._chance, self._ids = random.Random(1), count()

    def job(self) -> Job:
        chance = self._chance
        return Job(
            id=str(next(self._ids)),
            key=("version", chance.randrange(40)),
            steps=chance.choice((4, 8, 20, 50)),
            tenant=str(chance.randrange(1000)),
            priority=chance.choice(CLASSES),
            arrived=self.now,
            deadline=chance.choice((None, self.now + chance.uniform(1, 2000))),
        )

    def fill(self) -> None:
        while len(self.scheduler) < self.waiting:
            self._timed("add", partial(self.scheduler.add, self.job(), self.now))

    def boundary(self) -> None:
        run = self._timed("next", lambda: self.scheduler.next(self.now))
        assert isinstance(run, Run)
        seconds = run.steps * COSTS.step(run.jobs[0].key, len(run.jobs), 1)
        self.now += seconds
        self._timed("stepped", lambda: self.scheduler.stepped(run, seconds, self.now))
        spent = (self.taken["next"][-1] + self.taken["stepped"][-1]) / 1e6
        self.step_shares.append(spent / seconds)
        if self.shipped:
            self.shipped_shares.append(spent / run.steps / self.shipped.step(KEY, len(run.jobs), 1))

    def ask(self) -> None:
        known = self._chance.choice(list(self.scheduler._live.jobs))
        self._timed("work", self.scheduler.work)
        self._timed("cancel", lambda: self.scheduler.cancel(known))

    def _timed(self, name: str, call: Callable[[], object]) -> object:
        start = time.perf_counter()
        answer = call()
        self.taken[name].append(1e6 * (time.perf_counter() - start))
        return answer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--waiting", type=int, nargs="+", default=[100, 1_000, 10_000])
    parser.add_argument("--boundaries", type=int, default=2_000)
    options = parser.parse_args()
    rows: dict[str, list[str]] = {}
    try:
        shipped = device(None, False, None, "videogen-tiny")
    except VideogenError as error:
        sys.stderr.write(f"without the shipped model's step: {error}\n")
        shipped = None
    for waiting in options.waiting:
        load = Load(waiting, shipped and shipped.costs)
        load.fill()
        for number in range(options.boundaries):
            load.boundary()
            load.fill()
            if number % 20 == 0:
                load.ask()
                load.fill()
        for name, taken in load.taken.items():
            taken.sort()
            median, high = statistics.median(taken), taken[int(0.99 * len(taken))]
            rows.setdefault(f"`{name}`, µs", []).append(f"{median:.0f} ({high:.0f})")
        over = sum(1 for taken in load.taken["next"] if taken > LIMIT_US) / len(load.taken["next"])
        rows.setdefault(f"decisions over {LIMIT_US:.0f} µs", []).append(f"{over:.2%}")
        shares = statistics.median(load.step_shares)
        rows.setdefault("`next` and `stepped`, share of the step", []).append(f"{shares:.3%}")
        if shipped:
            shares = statistics.median(load.shipped_shares)
            rows.setdefault(f"the same of a step of {shipped.source}", []).append(f"{shares:.1%}")
    lines = ["Median, in brackets the 99th percentile; shares are medians of what each boundary's run took."]
    head = ["what", *(f"{waiting:,} waiting" for waiting in options.waiting)]
    body = [[name, *cells] for name, cells in rows.items()]
    write("scheduler_decision", "A scheduling decision", __spec__.name, [*lines, *table(head, body)])


if __name__ == "__main__":
    main()
