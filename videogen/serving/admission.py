"""Whether a request can be answered in time, told before it is accepted.

What stands before it is counted in the store's lane, where every replica's requests are, in the order of their turns: a
request is not behind what its priority goes before. What entered here is taken to cost what its steps do, all else what
videos made lately did, and all replicas are taken to go on as fast as they can; what waits for another's video counts
as if it were made too. A line is read once in a while; what enters it here meanwhile is added, and what ends here taken
off: the count errs high, by what other replicas answer in that while. A device makes what is before a request while it
makes the request, as far as they share batches.
"""

import math
import threading
import time
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from videogen.errors import Overloaded
from videogen.requests import AcceptedRequest, Lane
from videogen.scheduling.job import CLASSES
from videogen.serving.telemetry.observing import Ended, Observer
from videogen.store.pace import Eta
from videogen.store.records import RequestRecord
from videogen.store.servers import Server
from videogen.store.store import Store

LANE: Lane = "interactive"
LOOK_S = 0.5
"""How old a count may be."""
MARGIN = 1.5
"""How many more than the limit needs are counted: the line is read in parts, which are not of one length."""
MOST_COUNTED = 50_000
"""A request that has as many before it is refused, however fast they are answered."""


@dataclass(frozen=True, slots=True)
class ServiceLimits:
    """What is admitted. `most_work_s`: seconds of work, of all replicas, that may stand before a request."""

    most_work_s: float = 120.0
    price_per_hour: float | None = None
    """US dollars of one device."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How a replica stands: `step_s` of a step as it goes now, `lent` videos that runs handed to it.

    Of those only what the scheduler lets go before the request counts. `publish_s` is from a video to its record.
    `steps_each`: of the videos that the server's pace is of, on average; None takes all for such.
    """

    server: Server
    step_s: float
    lent: int = 0
    publish_s: float = 0.0
    steps_each: float | None = None

    def videos(self, steps: int | None) -> float:
        """How many videos of the server's pace one of so many steps costs."""
        return steps / self.steps_each if steps and self.steps_each else 1.0


class Steps:
    """The places in line whose steps are known, by these: there are few numbers of steps, however many wait."""

    def __init__(self) -> None:
        self._keys: dict[int, list[str]] = {}

    def add(self, key: str, steps: int) -> None:
        insort(self._keys.setdefault(steps, []), key)

    def remove(self, key: str, steps: int) -> None:
        keys = self._keys[steps]
        del keys[bisect_left(keys, key)]
        if not keys:
            del self._keys[steps]

    def more(self, pace: Pace, turn: str | None = None) -> float:
        """How many more videos of the server's pace they cost than they are; of those before a turn, if it is given."""
        return sum(
            (pace.videos(steps) - 1) * (len(keys) if turn is None else bisect_left(keys, turn))
            for steps, keys in self._keys.items()
        )


class Admission(Observer):
    """One replica's. Used where the store is called, by several threads at once."""

    def __init__(self, store: Store, limits: ServiceLimits, own: Callable[[AcceptedRequest], Pace]) -> None:
        self.store, self.limits, self.own = store, limits, own
        self._keys: list[str] = []
        self._entered: dict[str, tuple[str, int]] = {}
        self._steps = Steps()
        self._since: dict[str, tuple[str, int]] | None = None
        """What entered while the line is read, None if it is not."""
        self._ended: deque[str] = deque(maxlen=MOST_COUNTED)
        self._others: list[Server] = []
        self._looked_at = -math.inf
        self._looking, self._changing = threading.Lock(), threading.Lock()

    def check(self, accepted: AcceptedRequest, beside: Sequence[AcceptedRequest] = ()) -> None:
        """Raises Overloaded for what could not be answered in time, with the seconds in which it would be.

        What goes into another lane is not answered from here. `beside` are about to be submitted, and taken to stand
        before it as far as they are no less urgent.
        """
        if accepted.request.lane != LANE:
            return
        own = self.own(accepted)
        self._look(own)
        self._take_off()
        per_second = self._per_second(own, accepted)
        urgency = CLASSES.index(accepted.request.priority)
        first = [
            own.videos(one.request.num_inference_steps)
            for one in beside
            if one.request.lane == LANE and CLASSES.index(one.request.priority) <= urgency
        ]

        def refusal(turn: str | None = None) -> Overloaded | None:
            with self._changing:
                ahead, more = self._before(own, turn)
            ahead, more = ahead + len(first), more + sum(first) - len(first)
            wait = (ahead + more + own.lent) / per_second
            its = own.videos(accepted.request.num_inference_steps) / per_second
            return self._refusal(accepted, ahead, wait, _eta(accepted, own, wait + its))

        # Where it would stand takes a read, which is not needed if even the end of the line is near enough.
        if refusal() is None or self.store.is_answered(accepted):
            return
        if refused := refusal(self.store.next_turn(accepted)):
            raise refused

    def _before(self, own: Pace, turn: str | None) -> tuple[int, float]:
        """How many stand before a turn, of all if it is None; and how many more videos they cost."""
        ahead = len(self._keys) if turn is None else bisect_left(self._keys, turn)
        return ahead, self._steps.more(own, turn)

    def entered(self, record: RequestRecord) -> None:
        """A request was submitted here; again, where its idempotency key came once more."""
        if not record.is_live or record.lane != LANE:
            return
        steps = record.accepted.request.num_inference_steps if record.accepted is not None else None
        key, steps = entered = record.turn + record.id, steps or 0
        with self._changing:
            if self._entered.get(record.id) == entered:
                return
            self._entered[record.id] = entered
            self._steps.add(key, steps)
            place = bisect_left(self._keys, key)
            if self._keys[place : place + 1] != [key]:
                self._keys.insert(place, key)
            if self._since is not None:
                self._since[record.id] = entered

    def ended(self, job: Ended) -> None:
        """A job ended here, of whichever replica it was."""
        self._ended.append(job.job_id)

    def _take_off(self) -> None:
        with self._changing:
            while self._ended and self._since is None:
                if (entered := self._entered.pop(self._ended.popleft(), None)) is None:
                    continue
                key, steps = entered
                self._steps.remove(key, steps)
                place = bisect_left(self._keys, key)
                if self._keys[place : place + 1] == [key]:
                    del self._keys[place]

    def place(self, record: RequestRecord) -> Eta | None:
        """Where a request stands that waits, and how long it may take; None beyond what is counted."""
        if record.accepted is None or record.lane != LANE:
            return None
        own = self.own(record.accepted)
        self._look(own)
        with self._changing:
            ahead, more = self._before(own, record.turn + record.id)
            if ahead == len(self._keys):
                return None
        videos = ahead + more + own.lent + own.videos(record.accepted.request.num_inference_steps)
        turn = videos / self._per_second(own, record.accepted)
        return Eta(ahead, _eta(record.accepted, own, turn))

    def _refusal(self, accepted: AcceptedRequest, ahead: int, wait: float, eta: float) -> Overloaded | None:
        most, deadline = self.limits.most_work_s, accepted.request.deadline
        if ahead >= MOST_COUNTED:
            return Overloaded(f"{ahead:,} or more are before it; allowed: fewer", max(LOOK_S, wait - most), eta)
        if wait > most:
            return Overloaded(f"{wait:.0f} s of work are before it; allowed: {most:.0f} s", wait - most, eta)
        if deadline is not None and eta > deadline:
            told = f"deadline: got {deadline:g} s; its video would be there in about {eta:.2f} s"
            return Overloaded(told, eta - deadline, eta)
        return None

    def _per_second(self, own: Pace, accepted: AcceptedRequest) -> float:
        """Of all replicas that serve the version, each in videos of what it made lately: they tell no steps."""
        others = (one.per_second for one in self._others if not one.versions.isdisjoint(accepted.served_as))
        return own.server.per_second + sum(others)

    def _look(self, own: Pace) -> None:
        """Counts anew if the count is old; while another does that, the old one is good enough."""
        if time.monotonic() - self._looked_at < LOOK_S or not self._looking.acquire(blocking=self._looked_at < 0):
            return
        try:
            if time.monotonic() - self._looked_at < LOOK_S:
                return
            name = own.server.name
            self._others = [one for one in self.store.servers.live() if one.name != name]
            per_second = own.server.per_second + sum(one.per_second for one in self._others)
            most = min(MOST_COUNTED, round(MARGIN * self.limits.most_work_s * per_second) + 100)
            with self._changing:
                self._since, before = {}, dict(self._entered)
            keys = self.store.line(LANE, most).keys
            counted = set(keys)
            still = {name: entered for name, entered in before.items() if entered[0] in counted}
            with self._changing:
                for key, _ in self._since.values():
                    if key not in counted:
                        insort(keys, key)
                self._keys, self._entered, self._steps = keys, still | self._since, Steps()
                for key, steps in self._entered.values():
                    self._steps.add(key, steps)
            self._looked_at = time.monotonic()
        finally:
            with self._changing:
                self._since = None
            self._looking.release()


def _eta(accepted: AcceptedRequest, own: Pace, turn: float) -> float:
    """Seconds until its end: until as many have ended as stand before it, and itself; no less than its own steps take,
    as they go now, after half a step of others on average; and until it is in the store."""
    return max(turn, (accepted.request.num_inference_steps or 1) * own.step_s) + own.step_s / 2 + own.publish_s
