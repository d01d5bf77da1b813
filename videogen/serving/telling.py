"""What observers are told of a job's end: its times, from what the engine process says of its stages."""

import time
from collections.abc import Mapping

from videogen.requests import AcceptedRequest
from videogen.serving.observing import Ended, Outcome, Stage, StageName
from videogen.serving.tracing import TRACEPARENT, traceparent
from videogen.serving.views import accepted_at
from videogen.store.records import Json

ORDER: tuple[StageName, ...] = ("text", "step", "decode", "mp4")


def ended(
    accepted: AcceptedRequest,
    outcome: Outcome,
    facts: Mapping[str, Json],
    *,
    waited_s: float,
    first_step_s: float | None = None,
    publish_s: float = 0.0,
    error: str | None = None,
    run_id: str | None = None,
) -> Ended:
    """`waited_s`: from acceptance until it was taken from the queue. Stages are placed one after another."""
    born, now, request = accepted_at(accepted.id), time.time(), accepted.request
    seconds, batches = facts.get("seconds"), facts.get("batches")
    spent = {k: float(v) for k, v in seconds.items() if isinstance(v, int | float)} if isinstance(seconds, dict) else {}
    sizes = {int(k): int(v) for k, v in batches.items() if isinstance(v, int)} if isinstance(batches, dict) else {}
    stages, start = [Stage("queue", born, waited_s)], born + waited_s
    for name in ORDER:
        if name in spent:
            steps = sum(sizes.values()) if name == "step" else 0
            stages.append(Stage(name, start, spent[name], steps, tuple(sizes) if name == "step" else ()))
            start += spent[name]
    if publish_s:
        stages.append(Stage("publish", now - publish_s, publish_s))
    used = facts.get("device_seconds")
    return Ended(
        job_id=accepted.id,
        tenant=request.tenant,
        model=accepted.label,
        priority=request.priority,
        outcome=outcome,
        accepted_at=born,
        ended_at=now,
        first_step_s=first_step_s,
        gpu_seconds=float(used) if isinstance(used, int | float) else 0.0,
        stages=stages,
        error=error,
        traceparent=traceparent(request.metadata.get(TRACEPARENT)),
        run_id=run_id,
    )
