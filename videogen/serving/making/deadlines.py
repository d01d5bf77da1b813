"""What was not made by its deadline ends there, rather than when somebody next looks at it."""

import asyncio
from collections.abc import Awaitable, Callable

from videogen.requests import AcceptedRequest
from videogen.serving.making.in_hand import left

AGAIN_S = 0.5
"""Until the next look, where the store's clock is behind this one or the store is away."""
LONGEST_S = 60.0
"""Between looks at a job whose deadline is far off: one that has ended by then is remembered no longer."""


class Deadlines:
    """One event loop's. `look` gives the seconds that a job has left, None if it has ended.

    It goes by the store's clock, and its second argument is what `add` was given. A job that ends before its deadline
    is looked at once more, and that is all.
    """

    def __init__(self, look: Callable[[str, bool], Awaitable[float | None]]) -> None:
        self._look_at = look
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._due: dict[str, float] = {}
        self._accepted_here: set[str] = set()
        self._looking: set[asyncio.Task[None]] = set()

    def add(self, accepted: AcceptedRequest, accepted_here: bool = False) -> None:
        """A job that was accepted, or claimed, here just now; one may be both."""
        seconds = left(accepted)
        if seconds is None:
            return
        if accepted_here:
            self._accepted_here.add(accepted.id)
        if accepted.id not in self._timers:
            self._due[accepted.id] = asyncio.get_running_loop().time() + seconds
            self._look_again(accepted.id, 0.0)

    def again(self, accepted: AcceptedRequest) -> None:
        """Its deadline is another now."""
        if (timer := self._timers.pop(accepted.id, None)) is not None:
            timer.cancel()
        self.add(accepted)

    def __len__(self) -> int:
        """Jobs that are remembered."""
        return len(self._timers)

    def stop(self) -> None:
        for timer in self._timers.values():
            timer.cancel()
        for task in self._looking:
            task.cancel()
        self._timers.clear()

    def _look_again(self, job_id: str, at_least: float) -> None:
        loop = asyncio.get_running_loop()
        seconds = min(LONGEST_S, max(at_least, self._due[job_id] - loop.time()))
        self._timers[job_id] = loop.call_later(seconds + 0.001, self._begin, job_id)

    def _begin(self, job_id: str) -> None:
        task = asyncio.get_running_loop().create_task(self._look(job_id))
        self._looking.add(task)
        task.add_done_callback(self._looking.discard)

    async def _look(self, job_id: str) -> None:
        seconds = await self._look_at(job_id, job_id in self._accepted_here)
        if seconds is None:
            self._due.pop(job_id, None)
            if (timer := self._timers.pop(job_id, None)) is not None:
                timer.cancel()
            self._accepted_here.discard(job_id)
        elif job_id in self._timers:
            self._timers[job_id].cancel()
            self._due[job_id] = asyncio.get_running_loop().time() + seconds
            self._look_again(job_id, AGAIN_S)
