"""Whether a request can be answered in time, told before it is accepted.

What stands before it is counted in the store's lane, where every replica's requests are, in the order of their turns: a
request is not behind what its priority goes before. All are taken to cost what those made lately did, and all replicas
to go on as fast as they can; what waits for another's video counts as if it were made too. A line is read once in a
while; what enters it here meanwhile is added, and what ends here taken off: the count errs high, by what other replicas
answer in that while. A device makes what is before a request while it makes the request, as far as they share batches.
"""

import math
import threading
import time
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from videogen.errors import Overloaded
from videogen.requests import AcceptedRequest, Lane
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
    """

    server: Server
    step_s: float
    lent: int = 0
    publish_s: float = 0.0


class Admission(Observer):
    """One replica's. Used where the store is called, by several threads at once."""

    def __init__(self, store: Store, limits: ServiceLimits, own: Callable[[AcceptedRequest], Pace]) -> None:
        self.store, self.limits, self.own = store, limits, own
        self._keys: list[str] = []
        self._entered: dict[str, str] = {}
        self._since: dict[str, str] | None = None
        """What entered while the line is read, None if it is not."""
        self._ended: deque[str] = deque(maxlen=MOST_COUNTED)
        self._others: list[Server] = []
        self._looked_at = -math.inf
        self._looking, self._changing = threading.Lock(), threading.Lock()

    def check(self, accepted: AcceptedRequest) -> None:
        """Raises Overloaded for what could not be answered in time, with the seconds in which it would be.

        What goes into another lane is not answered from here.
        """
        if accepted.request.lane != LANE:
            return
        own = self.own(accepted)
        self._look(own)
        self._take_off()
        per_second = self._per_second(own, accepted.version_digest)

        def refusal(ahead: int) -> Overloaded | None:
            wait = (ahead + own.lent) / per_second
            return self._refusal(accepted, ahead, wait, _eta(accepted, own, wait + 1 / per_second))

        # Where it would stand takes a read, which is not needed if even the end of the line is near enough.
        if refusal(len(self._keys)) is None or self.store.is_answered(accepted):
            return
        turn = self.store.next_turn(accepted)
        with self._changing:
            ahead = bisect_left(self._keys, turn)
        if refused := refusal(ahead):
            raise refused

    def entered(self, record: RequestRecord) -> None:
        """A request was submitted here."""
        if record.is_live and record.lane == LANE:
            with self._changing:
                key = self._entered[record.id] = record.turn + record.id
                insort(self._keys, key)
                if self._since is not None:
                    self._since[record.id] = key

    def ended(self, job: Ended) -> None:
        """A job ended here, of whichever replica it was."""
        self._ended.append(job.job_id)

    def _take_off(self) -> None:
        with self._changing:
            while self._ended and self._since is None:
                key = self._entered.pop(self._ended.popleft(), "")
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
            ahead = bisect_left(self._keys, record.turn + record.id)
            if ahead == len(self._keys):
                return None
        turn = (ahead + own.lent + 1) / self._per_second(own, record.version_digest)
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

    def _per_second(self, own: Pace, version_digest: str) -> float:
        others = (one.per_second for one in self._others if version_digest in one.versions)
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
            still = {name: key for name, key in before.items() if key in counted}
            with self._changing:
                for key in self._since.values():
                    if key not in counted:
                        insort(keys, key)
                self._keys, self._entered = keys, still | self._since
            self._looked_at = time.monotonic()
        finally:
            self._since = None
            self._looking.release()


def _eta(accepted: AcceptedRequest, own: Pace, turn: float) -> float:
    """Seconds until its end: until as many have ended as stand before it, and itself; no less than its own steps take,
    as they go now, after half a step of others on average; and until it is in the store."""
    return max(turn, (accepted.request.num_inference_steps or 1) * own.step_s) + own.step_s / 2 + own.publish_s
