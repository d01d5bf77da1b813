"""What the engine process was given and has not ended: in whose hands it is, and what it ends with."""

import threading
from collections.abc import Callable, Sequence

from videogen.errors import EngineError
from videogen.serving.engine.lives import Live, cancelled, failure, refusal
from videogen.serving.engine.messages import Answer, Failed, Finished, FromEngine, Running
from videogen.serving.engine.schedule import Schedule


class Held:
    """Of one device. `changed` is the one lock of all that its threads share, and is notified when any of that changes.

    `send` is told everything; it may be called from any thread.
    """

    def __init__(self, schedule: Schedule, send: Callable[[FromEngine], None]) -> None:
        self.send, self._schedule = send, schedule
        self.changed = threading.Condition()
        self._lives: dict[str, Live] = {}
        self._told: dict[str, list[str]] = {}

    def __contains__(self, live: Live) -> bool:
        return self._lives.get(live.job.id) is live

    @property
    def ids(self) -> list[str]:
        with self.changed:
            return list(self._lives)

    def add(self, live: Live) -> None:
        with self.changed:
            self._lives[live.job.id] = live

    def get(self, job_id: str) -> Live | None:
        return self._lives.get(job_id)

    def check_free(self, digest: str) -> None:
        """Raises EngineError while jobs of a version are here."""
        count = sum(live.version.digest == digest for live in self._lives.values())
        if count:
            raise EngineError(f"version {digest[:12]} is still needed by {count} jobs")

    def drained(self, timeout_s: float) -> bool:
        """Waits until nothing is held any more; False if that took too long."""
        with self.changed:
            return self.changed.wait_for(lambda: not self._lives, timeout_s)

    def at(self, place: str, lives: Sequence[Live]) -> None:
        """Who is in the hands of a stream or stage from now on."""
        ids = [live.job.id for live in lives]
        if self._told.get(place, []) != ids:
            self._told[place] = ids
            self.send(Running(place, ids))

    def wanted(self, lives: Sequence[Live]) -> list[Live]:
        """Those that nobody cancelled; the others end here."""
        for live in lives:
            if live.cancelled:
                self.end(live, cancelled(live))
        return [live for live in lives if not live.cancelled]

    def fail(self, live: Live, error: Exception) -> None:
        self.end(live, failure(live.job.id, error))

    def end(self, live: Live, message: Finished | Failed) -> None:
        """Once, whoever comes first; those that wait for its latents end with it."""
        with self.changed:
            self._schedule.leave(live)
            if live not in self:
                return
            del self._lives[live.job.id]
            forks, live.forks = live.forks, []
            for fork in forks:
                fork.cancelled = True
                self.end(fork, cancelled(fork))
            self.changed.notify_all()
        if (forking := live.forking) is None:
            self.send(message)
        elif not forking.is_answered:
            failed = isinstance(message, Failed) and not live.cancelled
            self.send(refusal(forking.call, message) if failed else Answer(forking.call))
