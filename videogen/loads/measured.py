"""What a load measured: latencies by class, goodput, the error budget, and whether the generator kept up."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from videogen.loads.answers import Answer, Outcome
from videogen.serving.telemetry.overview import quantile

SHARES = (0.5, 0.9, 0.95, 0.99, 1.0)
LATE_S, LATE_SHARE, BUSY = 0.02, 0.1, 0.7
"""A generator is in doubt of which one request in a hundred left later than this and than this share of the p99 of the
answers, in which its delays are counted; and one that used so much of a core."""


@dataclass(frozen=True, slots=True)
class Taken:
    """One request. Seconds: due `at` after the start, sent `late`, `took` from when it was due to its last byte."""

    at: float
    kind: str
    is_repeat: bool
    late: float
    took: float
    answer: Answer


@dataclass(frozen=True, slots=True)
class Summary:
    """Of one class. Latencies in seconds of what was answered, None where nothing was; rates a second."""

    sent: int
    answered: int
    refused: int
    failed: int
    latency: dict[str, float | None]
    throughput: float
    good: int | None
    goodput: float | None


@dataclass(slots=True)
class Measured:
    """All requests of a run, in the order of their ends. `started_at`: Unix seconds. `cpu_s`: the generator's own."""

    started_at: float
    taken: list[Taken] = field(default_factory=list)
    waiting: int = 0
    seconds: float = 0.0
    cpu_s: float = 0.0

    def of(self, outcome: Outcome) -> int:
        return sum(one.answer.outcome == outcome for one in self.taken)

    def percentile(self, share: float) -> float | None:
        """Seconds within which so large a share of the answers came, by nearest rank."""
        return quantile(self.times(), share)

    def times(self, kind: str | None = None) -> list[float]:
        """Seconds that each answer took, of one kind or of all."""
        return [one.took for one in self.taken if one.answer.outcome == "answered" and kind in (None, one.kind)]

    @property
    def kinds(self) -> list[str]:
        return sorted({one.kind for one in self.taken})

    def summary(self, slo_s: float | None = None, kind: str | None = None, *, repeats: bool = False) -> Summary:
        """Of all, of one kind, or of the repeats alone. Good is what was answered within `slo_s`."""
        taken = [one for one in self.taken if kind in (None, one.kind) and (one.is_repeat or not repeats)]
        times = sorted(one.took for one in taken if one.answer.outcome == "answered")
        outcomes = Counter(one.answer.outcome for one in taken)
        good = None if slo_s is None else sum(took <= slo_s for took in times)
        each = 1 / self.seconds if self.seconds else math.nan
        return Summary(
            len(taken), outcomes["answered"], outcomes["refused"], outcomes["failed"],
            {"max" if share == 1.0 else f"p{100 * share:g}": quantile(times, share) for share in SHARES},
            len(times) * each, good, None if good is None else good * each,
        )  # fmt: skip

    def budget_spent(self, slo_s: float, objective: float) -> float:
        """The share of the error budget that is spent: above 1, fewer than `objective` were answered within `slo_s`."""
        whole = self.summary(slo_s)
        allowed = (1 - objective) * whole.sent
        bad = whole.sent - (whole.good or 0)
        return bad / allowed if allowed > 0 else math.inf if bad else 0.0

    @property
    def reasons(self) -> list[tuple[str, int]]:
        """Why there was no video, the most frequent first."""
        return Counter(one.answer.why for one in self.taken if one.answer.why).most_common()

    @property
    def late_p99(self) -> float:
        """How late, in seconds, all but one in a hundred requests left at most."""
        return quantile([one.late for one in self.taken], 0.99) or 0.0

    @property
    def cpu_share(self) -> float:
        """Of one core."""
        return self.cpu_s / self.seconds if self.seconds else 0.0

    @property
    def doubt(self) -> str | None:
        """Why the generator rather than the service may be what was measured; None if it kept up."""
        p99 = self.percentile(0.99)
        if self.late_p99 > max(LATE_S, LATE_SHARE * (p99 or 0.0)):
            of = f", {self.late_p99 / p99:.0%} of the answers' p99" if p99 else ""
            return f"one request in a hundred left more than {1000 * self.late_p99:.0f} ms after it was due{of}"
        if self.cpu_share > BUSY:
            return f"it used {self.cpu_share:.0%} of the one core that it can use"
        return None

    def over_time(self, bin_s: float) -> list[tuple[float, list[float]]]:
        """(start, seconds taken, in order) of the answers to what was due in each bin that has some."""
        bins: dict[int, list[float]] = {}
        for one in self.taken:
            if one.answer.outcome == "answered":
                bins.setdefault(int(one.at / bin_s), []).append(one.took)
        return [(number * bin_s, sorted(times)) for number, times in sorted(bins.items())]

    def as_plain(self, slo_s: float | None, objective: float) -> dict[str, Any]:
        """All of it as plain values, every request too."""
        return {
            "started_at": self.started_at,
            "seconds": self.seconds,
            "slo_s": slo_s,
            "objective": None if slo_s is None else objective,
            "budget_spent": None if slo_s is None else _finite(self.budget_spent(slo_s, objective)),
            "all": _plain(self.summary(slo_s)),
            "classes": {kind: _plain(self.summary(slo_s, kind)) for kind in self.kinds},
            "repeats": _plain(self.summary(slo_s, repeats=True)),
            "reasons": dict(self.reasons),
            "refused_without_retry_after": sum(
                one.answer.outcome == "refused" and not one.answer.says_when for one in self.taken
            ),
            "generator": {
                "late_p99_s": self.late_p99,
                "cpu_s": self.cpu_s,
                "cpu_share": self.cpu_share,
                "doubt": self.doubt,
            },
            "requests": [
                {
                    "at": round(one.at, 6), "class": one.kind, "repeat": one.is_repeat, "late": round(one.late, 6),
                    "took": round(one.took, 6), "outcome": one.answer.outcome,
                }
                for one in sorted(self.taken, key=lambda one: one.at)
            ],
        }  # fmt: skip


def _plain(summary: Summary) -> dict[str, Any]:
    return {name: getattr(summary, name) for name in Summary.__slots__}


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def percentile_curve(times: Iterable[float]) -> Sequence[tuple[float, float]]:
    """(nines, milliseconds): 1 is the 90th percentile, 2 the 99th, as far as there are answers to tell."""
    ordered = sorted(times)
    count = len(ordered)
    if not count:
        return []
    most = math.log10(count)
    points = [most * number / 40 for number in range(41)]
    return [(nines, 1000 * ordered[min(count - 1, int(count * (1 - 10**-nines) + 1e-9))]) for nines in points]
