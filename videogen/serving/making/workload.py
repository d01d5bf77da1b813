"""What this replica has in hand, and which of it the engine process has been given: all, but for suspects."""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from videogen.client.results import HANDED_BACK, ExecuteFailed, News
from videogen.requests import AcceptedRequest
from videogen.scheduling.job import CLASSES, Priority
from videogen.scheduling.policy import AGEING_S
from videogen.serving.engine.messages import Died, EngineJob
from videogen.serving.engine_process import EngineProcess
from videogen.serving.making.in_hand import InHand, Urgency, left
from videogen.serving.making.speed import Speed
from videogen.serving.making.suspects import Suspects
from videogen.store.records import Claim, StoreLimits


class Workload:
    """One engine process's, by the ids of requests. `dropped` is called when one was let go without a video."""

    def __init__(self, engine: EngineProcess, speed: Speed, limits: StoreLimits, dropped: Callable[[], None]) -> None:
        self.engine, self.speed, self.limits, self.dropped = engine, speed, limits, dropped
        self.down: str | None = "the engine process is starting"
        """Why nothing is being made, None while something can be."""
        self.in_hand: dict[str, InHand] = {}
        self.publishing: dict[str, InHand] = {}
        """Made, and on its way into the store; its lease is still kept alive."""
        self.suspects = Suspects()

    @property
    def gives(self) -> bool:
        """Does the engine process get what comes now?"""
        return self.down is None and not self.suspects.holds_back

    @property
    def leased(self) -> list[InHand]:
        """All whose leases are this replica's own."""
        return [held for held in (*self.in_hand.values(), *self.publishing.values()) if held.lent is None]

    @property
    def asks_for_steps(self) -> int:
        """How many of this replica's own have steps to come."""
        return sum(held.lent is None and held.progress < 1.0 for held in self.in_hand.values())

    def held(self, request_id: str) -> InHand | None:
        """What is known here of a request that is being made, or published, here."""
        return self.in_hand.get(request_id) or self.publishing.get(request_id)

    def has_of(self, version_digest: str) -> bool:
        """Is anything of a version still to be made here?"""
        return any(held.claim.request.version_digest == version_digest for held in self.in_hand.values())

    def lent_before(self, priority: Priority) -> int:
        """How many of what runs have lent the scheduler lets go before a newcomer of that class. For any thread.

        Of its own class as good as nothing: of a run's many jobs most are late, and those go after who can be in time.
        """
        rank, now = CLASSES.index(priority), time.monotonic()
        lent = [held for held in list(self.in_hand.values()) if held.lent is not None]
        return sum(
            CLASSES.index(held.priority) < rank or now - held.taken_at > AGEING_S[held.priority] for held in lent
        )

    def add(self, claim: Claim, lent: Callable[[News], None] | None = None) -> InHand:
        """Takes a claim in hand; one that is `lent` is a run's, which hears of it. It is given with the next ones."""
        self.in_hand[claim.request.id] = held = InHand(claim, time.monotonic(), lent)
        return held

    def give_waiting(self) -> None:
        """Gives the engine process whatever it has yet to get."""
        waiting = {one: held.claim.attempt for one, held in self.in_hand.items() if not held.is_given}
        if self.down is None and (waiting or self.suspects.holds_back):
            last = {one for one, attempt in waiting.items() if 1 < attempt >= self.limits.max_attempts}
            for request_id in self.suspects.next(list(waiting), last, is_idle=len(waiting) == len(self.in_hand)):
                self._give(self.in_hand[request_id])

    def _give(self, held: InHand) -> None:
        """As urgent as the most urgent who waits for it."""
        held.is_given = True
        priority, deadline_in = self._urgency(held)
        self.engine.run(replace(self.job(held.claim.request), priority=priority, deadline_in=deadline_in))

    def job(self, accepted: AcceptedRequest) -> EngineJob:
        """What the engine process is told of a request."""
        weight = self.limits.tenant_weights.get(accepted.request.tenant, 1.0)
        return EngineJob.of(accepted, self._deadline_in(accepted), weight)

    def _deadline_in(self, accepted: AcceptedRequest) -> float | None:
        """Seconds within which its video is to be made, so as to be in the store by the deadline."""
        seconds = left(accepted)
        return None if seconds is None else max(0.0, seconds - self.speed.publish_s)

    def _urgency(self, held: InHand) -> tuple[Priority, float | None]:
        """What the engine process is told now. A deadline that cannot be kept counts only where all are such."""
        all_seconds = [self._deadline_in(one) for one in held.asked]
        seconds = min((one for one in all_seconds if one), default=None if None in all_seconds else 0.0)
        priority, due = held.priority, None if seconds is None else time.monotonic() + seconds
        held.urgency = Urgency(priority, due)
        return priority, seconds

    def joined(self, generation: str, accepted: AcceptedRequest) -> None:
        """A further request, which this replica accepted, waits for what is being made here.

        One that another accepted counts from the next look at who waits: as a request of the generation is changed or
        ends, or the engine process is started again. What a run has lent is as urgent as the run says.
        """
        for held in self.in_hand.values():
            if held.claim.generation == generation and held.lent is None:
                held.waiting = (*held.asked, accepted)
                now, seconds = time.monotonic(), self._deadline_in(accepted)
                due = None if seconds is None else now + seconds
                if held.urgency is None or held.urgency.rises_with(accepted.request.priority, due, now):
                    self._tell_urgency(held)

    def hand_on(self, held: InHand, waiting: Sequence[AcceptedRequest]) -> None:
        """It is made for those who wait for it now: in the name of one of them, and as urgent as the most urgent."""
        before = held.claim.request.id
        heir = next((one for one in waiting if one.id == before), waiting[0])
        held.claim = replace(held.claim, request=heir)
        if heir.id != before:
            self.out(before)
            self.engine.rename(before, heir.id)
            self.in_hand[heir.id] = held
        held.waiting = tuple(waiting)
        self._tell_urgency(held)

    def left_by(self, held: InHand, known: Sequence[AcceptedRequest], waiting: Sequence[AcceptedRequest]) -> None:
        """Of those that were `known` only those `waiting` still do: it is as urgent as they are, and who came since."""
        ids = {one.id for one in (*known, *waiting)}
        held.waiting = (*waiting, *(one for one in held.asked if one.id not in ids))
        self._tell_urgency(held)

    def _tell_urgency(self, held: InHand) -> None:
        priority, deadline_in = self._urgency(held)
        self.engine.change(held.claim.request.id, priority=priority, deadline_in=deadline_in)

    def out(self, request_id: str) -> InHand | None:
        """It is in hand no more."""
        self.suspects.ended(request_id)
        return self.in_hand.pop(request_id, None)

    def made(self, request_id: str) -> InHand | None:
        """Its video is there: it is being published, until it is popped from there."""
        if held := self.out(request_id):
            held.progress, self.publishing[request_id] = 1.0, held
        return held

    def drop(self, claim: Claim) -> bool:
        """Ends the work on a claim, if it is in hand under this very lease."""
        held = self.in_hand.get(claim.request.id)
        if held is None or held.claim.token != claim.token:
            return False
        self.out(claim.request.id)
        self.engine.cancel(claim.request.id)
        self.dropped()
        return True

    def hand_back(self, some: Iterable[InHand], why: str) -> None:
        """Lets go of what was lent, as if it had never been; what is not lent is not touched."""
        for held in list(some):
            if held.lent is not None:
                self.out(held.claim.request.id)
                held.lent(ExecuteFailed(held.claim.generation, HANDED_BACK, why, True))

    def died(self, event: Died) -> list[str]:
        """The process ended, and whatever it had is to be given again. Tells what is to blame."""
        blamed = self.suspects.died(event.busy, [one for one in self.in_hand if one in event.held])
        for held in self.in_hand.values():
            held.is_given, held.progress = False, 0.0
        return blamed
