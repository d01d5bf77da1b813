"""Traces of jobs for an OpenTelemetry collector: a span for each job, with one for each stage below it.

A job's spans are made when it has ended, from the times that its stages told, so that a job costs nothing while it is
made. All its steps are one span, as long as its share of their batches. The caller's `traceparent` (W3C Trace Context)
travels in the request's metadata through the store, so the spans join the caller's trace whichever replica makes the
video, for a Dagster run too, whose name they carry then. A run that makes it by itself sends no spans.
"""

import contextvars
import os
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from videogen.opening import require
from videogen.serving.telemetry.observing import Ended, Observer

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter, SpanProcessor

TRACEPARENT = "traceparent"
"""The header and the metadata's key."""
ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
SHAPE = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


_caller: contextvars.ContextVar[str | None] = contextvars.ContextVar("traceparent", default=None)


def traceparent(text: object) -> str | None:
    """`text` if it is a trace's parent in W3C's form (level 1, section 3.2), else None: a bad one is to be ignored."""
    return text if isinstance(text, str) and SHAPE.fullmatch(text) else None


def called_with(header: str | None) -> None:
    """What a call's task asks for from here on belongs to the trace that its header `traceparent` names, if any."""
    _caller.set(traceparent(header))


def carried(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """A request's metadata with the call's trace in it; what the caller put there itself goes before the header."""
    found = _caller.get()
    return {TRACEPARENT: found, **metadata} if found else dict(metadata)


class Tracing(Observer):
    """Sends what jobs tell. `close` sends what is left."""

    def __init__(self, processor: "SpanProcessor") -> None:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider

        named = "OTEL_SERVICE_NAME" in os.environ
        self._provider = TracerProvider(resource=Resource.create({} if named else {"service.name": "videogen"}))
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("videogen")

    @classmethod
    def to(cls, exporter: "SpanExporter") -> "Tracing":
        """Sends in batches, from a thread of its own, and drops spans rather than wait for a slow collector."""
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        return cls(BatchSpanProcessor(exporter))

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> "Tracing | None":
        """To the collector that OTEL_EXPORTER_OTLP_ENDPOINT names; None, and nothing imported, where it is not set.

        Raises NotInstalled if it is set and the packages are not there.
        """
        given = os.environ if environment is None else environment
        endpoint = next((given[name] for name in ENDPOINTS if given.get(name)), None)
        if endpoint is None:
            return None
        require("opentelemetry", "tracing")
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

        return cls.to(OTLPSpanExporter(endpoint=endpoint))

    def ended(self, job: Ended) -> None:
        from opentelemetry import trace
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        parent = traceparent(job.traceparent)
        context = TraceContextTextMapPropagator().extract({TRACEPARENT: parent} if parent else {})
        facts = {
            "videogen.job_id": job.job_id,
            "videogen.tenant": job.tenant,
            "videogen.model": job.model,
            "videogen.priority": job.priority,
            "videogen.outcome": job.outcome,
            "videogen.gpu_seconds": job.gpu_seconds,
            "dagster.run_id": job.run_id,
        }
        span = self._tracer.start_span(
            "generate video",
            context=context,
            kind=trace.SpanKind.SERVER,
            start_time=_ns(job.accepted_at),
            attributes={name: value for name, value in facts.items() if value is not None},
        )
        below = trace.set_span_in_context(span)
        for stage in job.stages:
            attributes = {"videogen.steps": stage.steps, "videogen.batches": stage.batches} if stage.steps else None
            child = self._tracer.start_span(stage.name, below, start_time=_ns(stage.start), attributes=attributes)
            child.end(_ns(stage.start + stage.seconds))
        if job.outcome == "failed":
            span.set_status(trace.StatusCode.ERROR, job.error)
        span.end(_ns(job.ended_at))

    def close(self) -> None:
        """Waits for what is on its way, some seconds at most."""
        self._provider.shutdown()


def _ns(seconds: float) -> int:
    return int(seconds * 1e9)
