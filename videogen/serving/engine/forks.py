"""Jobs that are made of another's latents: asked for, split off at its next boundary, begun."""

from collections.abc import Sequence

from videogen.serving.engine.held import Held
from videogen.serving.engine.lives import AskedFork, Live, cancelled
from videogen.serving.engine.messages import Answer, Fork
from videogen.serving.engine.schedule import Schedule
from videogen.serving.engine.stages import one_by_one


class Forks:
    """Of one device. Its texts are read by whoever reads those of other jobs."""

    def __init__(self, schedule: Schedule, held: Held) -> None:
        self._schedule, self._held = schedule, held

    def ask(self, asked: Fork, live: Live) -> bool:
        """Is the job that it is made of here? If so, `live` is held, and `wait` is next, once its text is read."""
        with self._held.changed:
            source = self._held.get(asked.id)
            if source is None or source.cancelled:
                self._held.send(Answer(asked.call))
                return False
            live.forking, live.received = AskedFork(asked.call, source, asked.fields), source.received
            self._held.add(live)
            return True

    def wait(self, live: Live, source: Live) -> None:
        """Takes over the latents of `source` as soon as that is between two steps; without it, ends. Under the lock."""
        if source not in self._held:
            live.cancelled = True
            self._held.end(live, cancelled(live))
            return
        source.forks.append(live)
        self.split(source)

    def split(self, source: Live) -> None:
        """Those that wait for it take over its latents, if it is between two steps. Under the lock."""
        if not source.is_between_steps:
            return
        forks, source.forks = source.forks, []
        for live in self._held.wanted(forks):
            one_by_one([live], self._take_over, self._held.fail)

    def _take_over(self, lives: Sequence[Live]) -> None:
        for live in lives:
            if (forking := live.forking) is not None:
                accepted, source = live.accepted.changed(forking.source.step, forking.fields), forking.source
                live.generation = live.version.model.fork(source.generation, live.generation, accepted)
                live.accepted, forking.is_answered = accepted, True
                self._held.send(Answer(forking.call, accepted.changes[-1].step))

    def begin(self, job_id: str, *, instead: bool) -> Live | None:
        """A fork takes its steps from now on. With `instead`, gives the job that it was made of, which is to end."""
        with self._held.changed:
            live = self._held.get(job_id)
            if live is None or live.forking is None or live.cancelled:
                return None
            source, live.forking = live.forking.source, None
            if instead:
                live.charge(source)
            self._schedule.add(live)
            self._held.changed.notify_all()
        return source if instead else None
