"""How much work there is."""

from collections import Counter
from collections.abc import Callable, Hashable, Iterable

from videogen.scheduling.job import Job


class Backlog:
    """All jobs that have not ended, counted by key and number of steps: those of one such kind cost the same."""

    def __init__(self) -> None:
        self._kinds = Counter[tuple[Hashable, int]]()

    def add(self, job: Job) -> None:
        self._kinds[job.key, job.steps] += 1

    def remove(self, job: Job) -> None:
        kind = job.key, job.steps
        self._kinds[kind] -= 1
        if not self._kinds[kind]:
            del self._kinds[kind]

    def work(
        self, started: Iterable[Job], cost: Callable[[Hashable, int], float], each: Callable[[Hashable, int], float]
    ) -> float:
        """Seconds of all. By key and steps, `cost` gives the device's seconds of a job and `each` those of one of its
        steps; `started` may have some done."""
        seconds = sum(count * cost(key, steps) for (key, steps), count in self._kinds.items())
        return max(0.0, seconds - sum(job.steps_done * each(job.key, job.steps) for job in started))
