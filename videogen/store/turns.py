"""Whose turn it is: every request gets a time at which it would be its turn, and the earliest stands first.

That time is when it came, plus what its priority can wait, plus a share for each of its tenant's requests before it.
So priorities differ by how long they may be overtaken, not for ever: nothing that comes after a request's turn stands
before it (ageing), and a tenant that sends a thousand at once stands behind the first of everybody else's (fairness).

How far a claim may leave that order. A lane's index is sharded and read a shard at a time: each shard's order is exact,
and so is theirs together, but for what is put in while they are read. `Leases.claim_lane` then takes, with the first
that may be claimed, what goes with it from at most `ALIKE_AHEAD` entries behind; who loses that first one to another
claimer takes one from at most as far behind. Every claimer tries the first one first. So a request that has n claimable
ones before it is in the (n + 1)-th claim that gets the first at the latest, whatever else is taken meanwhile.
"""

import math
from collections.abc import Mapping

from videogen.errors import StoreConflict
from videogen.requests import Lane, Priority, Request
from videogen.store.contention import until_swapped
from videogen.store.pace import Pace
from videogen.store.primitives import Is, RecordStore, Set, Write

WAITS_S: dict[Priority, float] = {"interactive": 0.0, "standard": 600.0, "batch": 6 * 3600.0}
"""How long requests of a priority may be overtaken by those that came later."""
SHARE_S = 1.0
"""How far a tenant's next request stands behind its last, at a weight of 1, at most.

Where the lane's answers come faster, it is a little less than what one takes: a tenant whose requests are all answered
would otherwise come to stand ever further behind the others.
"""
EASE = 0.8
"""Share of what an answer takes: a pace counts what was asked for lately, and lags behind."""
PACE_S = 5.0
"""For how long a lane's pace is remembered: to look it up reads a few dozen records."""
DIGITS = 15
IDLE_S = 60.0


class Turns:
    """Turns by tenant, lane and priority. `weights`: tenant -> how much more than others it gets; 1 if not named."""

    kind = "turns"

    def __init__(self, records: RecordStore, weights: Mapping[str, float], pace: Pace) -> None:
        self.records, self.weights, self.pace = records, weights, pace
        self._shares: dict[Lane, tuple[float, float]] = {}

    def take(self, tenant: str, lane: Lane, priority: Priority, now: float, came: float | None = None) -> str:
        """The next turn of a request that came `now`, or when it `came`, as a text that sorts by time."""
        share = self._share_s(lane, now) / self.weights.get(tenant, 1.0)
        start = self._start(f"{tenant}.{lane}.{priority}", share, now, now if came is None else came)
        return _turn(start, priority)

    def move(self, turn: str, before: Priority, request: Request, came: float, now: float) -> str:
        """The turn of a request that had `turn` at another priority and takes its tenant's next share at this one.

        It stands behind the shares that it stood behind before, and behind those that the tenant has taken here.
        """
        if not turn:
            return turn
        moved = int(turn) + round(1000 * (WAITS_S[request.priority] - WAITS_S[before]))
        return max(f"{moved:0{DIGITS}d}", self.take(request.tenant, request.lane, request.priority, now, came))

    def next(self, tenant: str, lane: Lane, priority: Priority, now: float) -> str:
        """The turn that `take` would give, which is not taken."""
        record = self.records.read(self.kind, f"{tenant}.{lane}.{priority}")
        return _turn(max(now, record.number("until")) if record and "until" in record.bins else now, priority)

    def _share_s(self, lane: Lane, now: float) -> float:
        looked_at, share = self._shares.get(lane, (-math.inf, SHARE_S))
        if not 0 <= now - looked_at < PACE_S:
            share = min(SHARE_S, EASE / pace) if (pace := self.pace.per_second(lane)) else SHARE_S
            self._shares[lane] = now, share
        return share

    def _start(self, name: str, share: float, now: float, came: float) -> float:
        """When it `came`, or as long after that as the tenant has taken shares ahead; takes one more.

        Under too much contention a request gets the time at which it came: nobody is worse off for it.
        """

        def attempt() -> float | None:
            record = self.records.read(self.kind, name)
            until = record.number("until") if record and "until" in record.bins else None
            start = came if until is None else max(came, until)
            ahead = start + share
            write = Write(self.kind, name, (Set("until", ahead),), "only", ttl=max(ahead, now) - now + IDLE_S)
            if record is not None:
                held = Is("until", record.bins.get("until"))
                write = Write(self.kind, name, write.operations, "never", held, write.ttl)
            return None if self.records.write(write) is None else start

        try:
            return until_swapped(attempt, f"turns {name}")
        except StoreConflict:
            return came


def _turn(start: float, priority: Priority) -> str:
    return f"{round(1000 * (start + WAITS_S[priority])):0{DIGITS}d}"
