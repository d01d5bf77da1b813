"""Who leads the next run, and who joins: by age, class, target, and what tenants got."""

from collections.abc import Hashable
from functools import partial

from videogen.scheduling.batches import Batches
from videogen.scheduling.job import Job
from videogen.scheduling.live import RANKS, LiveJobs

LATE_MOVES = 4
"""How many jobs one decision finds late at most, and how many more in filling; the decisions after it find the next."""


class Choice:
    """Looks at the first of each line alone, so that what it costs does not grow with those that wait."""

    def __init__(self, live: LiveJobs, batches: Batches) -> None:
        self._live, self._batches, self._policy = live, batches, batches.policy

    def is_late(self, job: Job, now: float) -> bool:
        """In the batch that it would share now, or a smaller one that pays; not by what it could do alone, or all would
        start and none end."""
        key, live, batches = job.key, self._live, self._batches
        waiting = live.waiting_of(key)
        here = max(1, waiting + live.running_of(key))
        size = min(here, batches.least(job, waiting), job.batch_most or batches.most(key))
        return now + batches.time(key, job.remaining, size) > job.target

    def leader(self, now: float) -> Job | None:
        """Whose key is run next; None if nobody waits. Too many that started go first, then who came of age."""
        live = self._live
        if len(live.paused) > self._policy.paused_max:
            return min(live.paused.values(), key=partial(_turn, now))
        for aged_at, _, job in live.ages:
            if aged_at > now:
                break
            if not job.busy:
                return job
        return self._by_class(now)

    def _by_class(self, now: float) -> Job | None:
        moves, ahead = LATE_MOVES, self._policy.fairness_s
        for number, shares in enumerate(self._live.shares):
            line, late = self._live.lines[2 * number], self._live.lines[2 * number + 1]
            while line.jobs:
                least = line.floor()
                if late.floor() + ahead < least:
                    break
                job = line.first(least + ahead)
                if job is None or not moves or not self.is_late(job, now):
                    shares.raise_floor(least)
                    return job
                self._live.set_late(job)
                moves -= 1
            if late.jobs:
                shares.raise_floor(late.floor())
                return late.first(late.floor() + ahead)
        return None

    def fill(self, leader: Job, waiting: int, size: int, now: float) -> list[Job]:
        """The leader and up to `size` − 1 who join it, in the same order as leaders; busy from now on.

        So many of its key are `waiting`. What is late for its deadline joins no run whose leader can still keep one.
        """
        key, jobs, live, costs = leader.key, [leader], self._live, self._batches.costs
        each, missed = self._batches.each(key, leader.steps), leader.deadline is None or leader.late
        rank, paused, moves = 0, None, LATE_MOVES
        together = min(waiting + live.running_of(key), self._batches.full(leader))
        step, rest = costs.step(key, together, 1), costs.rest(key, together, 1)
        live.start(leader, each)
        while len(jobs) < size and rank < len(RANKS):
            if len(live.paused) > self._policy.paused_max:
                paused = self._paused_by_turn(now, key) if paused is None else paused
                if not paused:
                    break
                job = paused.pop()
            else:
                job = live.first_of(key, rank, live.allowed(rank, self._policy.fairness_s), missed=missed)
                if job is None:
                    rank += 1
                    continue
                due = job.target - job.remaining * step - rest
                if moves and not job.late and now > due and self.is_late(job, now):
                    live.set_late(job)
                    moves -= 1
                    continue
            live.start(job, each)
            jobs.append(job)
        return jobs

    def _paused_by_turn(self, now: float, key: Hashable) -> list[Job]:
        """What started, of a key; the one that goes first is last."""
        of = [job for job in self._live.paused.values() if job.key == key]
        of.sort(key=partial(_turn, now), reverse=True)
        return of


def _turn(now: float, job: Job) -> tuple[float, int, float, int]:
    """Of started jobs, the one with the least goes first."""
    return min(now, job.aged_at), job.rank, job.target, job.order
