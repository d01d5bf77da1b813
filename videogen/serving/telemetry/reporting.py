"""From what the engine process tells to what observers hear: how a job went, and how the engine stands."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from videogen.requests import AcceptedRequest, Priority
from videogen.serving.engine.messages import Stats
from videogen.serving.telemetry.observing import Ended, Load, Observer, Outcome, Stage, StageName
from videogen.serving.telemetry.tracing import TRACEPARENT, traceparent
from videogen.serving.views import accepted_at, device_seconds

IN_ORDER: tuple[tuple[str, StageName], ...] = (
    ("text", "text"),
    ("denoise", "step"),
    ("decode", "decode"),
    ("mp4", "mp4"),
)
"""The engine's names of what it does for a job, and the observers'."""


class EngineReport:
    """Tells an observer what is new in the engine's figures, which count calls since the engine's start."""

    def __init__(self, observer: Observer) -> None:
        self.observer = observer
        self._before: Counter[int] = Counter()
        self._held_s = 0.0

    def heard(self, stats: Stats, waiting: Iterable[Priority], ready: bool) -> None:
        """`waiting`: the classes of the jobs that this replica took and that have made no step."""
        counts = dict(Counter(waiting))
        if stats.held_s < self._held_s:  # another engine process
            self._held_s = 0.0
        held_s, self._held_s = stats.held_s - self._held_s, stats.held_s
        busy = tuple(stats.busy_share)
        self.observer.loaded(Load(counts, stats.running, stats.work_s, busy, ready, held_s, stats.expected_per_s))
        now = Counter({int(size): calls for size, calls in stats.batches.items()})
        if any(now[size] < calls for size, calls in self._before.items()):
            self._before.clear()  # another engine process
        for size, calls in sorted((now - self._before).items()):
            self.observer.stepped(size, calls, stats.step_seconds or 0.0)
        self._before = now


def ended(
    accepted: AcceptedRequest,
    outcome: Outcome,
    at: float,
    *,
    taken_at: float | None = None,
    first_step_at: float | None = None,
    finished_at: float | None = None,
    facts: Mapping[str, Any] | None = None,
    error: str | None = None,
    run_id: str | None = None,
) -> Ended:
    """A job that ended `at`, all times in unix seconds. `facts` are the engine's; without `taken_at` it made nothing.

    Of a batch's time a job is told its share, so its stages are shown one after the other up to `finished_at`, with the
    waits between them in front.
    """
    request, facts, began = accepted.request, facts or {}, accepted_at(accepted.id)
    return Ended(
        job_id=accepted.id,
        tenant=request.tenant,
        model=accepted.label,
        priority=request.priority,
        outcome=outcome,
        accepted_at=began,
        ended_at=at,
        first_step_s=None if first_step_at is None else max(0.0, first_step_at - began),
        gpu_seconds=device_seconds(facts),
        stages=_stages(began, taken_at, finished_at, at, facts),
        error=error,
        traceparent=traceparent(request.metadata.get(TRACEPARENT)),
        run_id=run_id,
    )


def _stages(
    began: float, taken_at: float | None, finished_at: float | None, at: float, facts: Mapping[str, Any]
) -> tuple[Stage, ...]:
    if taken_at is None or finished_at is None:
        return ()
    seconds = facts.get("seconds") or {}
    spent = [(name, _number(seconds[theirs])) for theirs, name in IN_ORDER if theirs in seconds]
    sizes = {int(size): int(steps) for size, steps in (facts.get("batches") or {}).items()}
    start = max(taken_at, finished_at - sum(took for _, took in spent))
    found = [Stage("queue", began, max(0.0, start - began))]
    for name, took in spent:
        steps = sum(sizes.values()) if name == "step" else 0
        found.append(Stage(name, start, took, steps, tuple(sorted(sizes)) if steps else ()))
        start += took
    return (*found, Stage("publish", finished_at, max(0.0, at - finished_at)))


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0
