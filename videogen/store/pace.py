"""How fast a lane is answered: a few small counters that expire, for an estimate of when it will be one's turn."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from videogen.requests import Lane
from videogen.store.primitives import Add, Record, RecordStore, Write

SLICE_S = 15
"""Of time that one counter is for."""
SLICES = 40
"""How many are looked back on: ten minutes."""


@dataclass(frozen=True, slots=True)
class Eta:
    """`position`: how many stand before it in its lane. `seconds`: until its answer; None if nothing is known of that.

    An estimate: it takes the lane to go on as fast as it did in the last ten minutes, and nobody to come in between.
    """

    position: int
    seconds: float | None


class Pace:
    """Requests answered with a video made for them, by lane and slice of time. One that a crash missed is missing."""

    kind = "pace"

    def __init__(self, records: RecordStore) -> None:
        self.records = records

    def count(self, lanes: Sequence[Lane], now: float) -> list[Write]:
        """Counts an answer in each of the lanes, now."""
        key, ttl = int(now // SLICE_S), SLICE_S * (SLICES + 1.0)
        return [Write(self.kind, f"{lane}/{key}", (Add("answers", n),), ttl=ttl) for lane, n in Counter(lanes).items()]

    def per_second(self, lane: Lane) -> float | None:
        """Answers a second from the first that is looked back on until now; None if there was none."""
        now = self.records.now()
        slices = [int(now // SLICE_S) - back for back in range(SLICES)]
        found = self.records.read_many(self.kind, [f"{lane}/{one}" for one in slices])
        counts = {one: r.count("answers") for one, r in zip(slices, found, strict=True) if isinstance(r, Record)}
        if not any(counts.values()):
            return None
        return sum(counts.values()) / max(now - SLICE_S * min(counts), 1.0)
