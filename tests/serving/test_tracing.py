"""Traces as a collector gets them: in memory, and over OTLP from a real receiver on loopback."""

import contextvars
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from tests.serving.running import serving
from tests.serving.test_lending import leases, sealed
from tests.serving.test_metrics import STAGES, ended
from videogen.client.results import Executed
from videogen.client.sync import Client
from videogen.serving.telemetry.tracing import Tracing, called_with, carried, traceparent
from videogen.store.store import Store

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
HEADER = f"00-{TRACE}-{PARENT}-01"


def asked_with(header, metadata):
    """The metadata of what is asked for in a call with this header."""

    def call():
        called_with(header)
        return carried(metadata)

    return contextvars.copy_context().run(call)


@pytest.fixture
def traced():
    exporter = InMemorySpanExporter()
    tracing = Tracing(SimpleSpanProcessor(exporter))
    yield tracing, exporter.get_finished_spans
    tracing.close()


def test_a_job_is_a_span_with_its_stages_below_it(traced):
    tracing, finished = traced
    tracing.ended(ended(run_id="run-7"))
    *stages, job = finished()
    assert job.name == "generate video" and job.parent is None
    assert (job.start_time, job.end_time) == (100_000_000_000, 100_600_000_000)
    assert job.attributes["videogen.job_id"] == "job-1" and job.attributes["dagster.run_id"] == "run-7"
    assert [span.name for span in stages] == [stage.name for stage in STAGES]
    assert {span.parent.span_id for span in stages} == {job.context.span_id}
    assert {span.context.trace_id for span in stages} == {job.context.trace_id}
    steps = stages[2]
    assert steps.attributes["videogen.steps"] == 4 and steps.attributes["videogen.batches"] == (2, 2, 4, 4)
    assert steps.end_time - steps.start_time == pytest.approx(0.2e9, abs=1000)
    assert not any("prompt" in name for span in finished() for name in span.attributes)


def test_a_job_joins_its_callers_trace_also_through_the_store(traced, tmp_path):
    from tests.store.builders import accepted

    tracing, finished = traced
    asked = accepted(1)
    with_trace = asked.request.model_copy(update={"metadata": asked_with(HEADER, {"a": 1})})
    with Store.open(f"embedded:{tmp_path / 'store'}") as store:
        store.submit(asked.model_copy(update={"request": with_trace}))
    with Store.open(f"embedded:{tmp_path / 'store'}") as replica:
        metadata = replica.request(asked.id).accepted.request.metadata
    assert metadata["a"] == 1
    tracing.ended(ended(traceparent=metadata["traceparent"]))
    job = finished()[-1]
    assert f"{job.context.trace_id:032x}" == TRACE and f"{job.parent.span_id:016x}" == PARENT


@pytest.mark.parametrize(
    "header", [None, "", "nonsense", f"ff-{TRACE}-{PARENT}-01", f"00-{'0' * 32}-{PARENT}-01", HEADER.upper(), 5]
)
def test_a_bad_traceparent_is_ignored(traced, header):
    tracing, finished = traced
    assert traceparent(header) is None and asked_with(header, {}) == {}
    tracing.ended(ended(traceparent=header))
    assert finished()[-1].parent is None


def test_what_failed_is_marked(traced):
    tracing, finished = traced
    tracing.ended(ended(outcome="failed", error="out of memory", stages=()))
    assert finished()[-1].status.description == "out of memory" and not finished()[-1].status.is_ok


class Receiver(trace_service_pb2_grpc.TraceServiceServicer):
    def __init__(self):
        self.requests, self.came = [], threading.Event()

    def Export(self, request, context):
        self.requests.append(request)
        self.came.set()
        return trace_service_pb2.ExportTraceServiceResponse()

    @property
    def resources(self):
        return [resource for request in self.requests for resource in request.resource_spans]

    @property
    def spans(self):
        return [span for resource in self.resources for scope in resource.scope_spans for span in scope.spans]


@pytest.fixture
def collector():
    receiver, server = Receiver(), grpc.server(ThreadPoolExecutor(2))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(receiver, server)
    receiver.url = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    yield receiver
    server.stop(0)


def test_spans_arrive_at_a_real_collector(collector):
    tracing = Tracing.from_environment({"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url})
    tracing.ended(ended(traceparent=HEADER))
    tracing.close()  # sends what is left
    assert collector.came.wait(30)
    (resource,), spans = collector.resources, collector.spans
    assert any(a.key == "service.name" and a.value.string_value == "videogen" for a in resource.resource.attributes)
    assert len(spans) == 1 + len(STAGES) and {span.trace_id.hex() for span in spans} == {TRACE}


@pytest.mark.slow
def test_what_a_run_hands_over_joins_the_callers_trace_under_the_runs_name(collector, tmp_path):
    fields = {"prompt": "a red ring", "model": "synthetic", "metadata": asked_with(HEADER, {})}
    with serving(tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT=collector.url) as service:
        with Store.open(f"embedded:{tmp_path}/store") as store, Client(f"127.0.0.1:{service.grpc}") as client:
            claims = store.claim(sealed(store, 2, **fields), "run-7", 60.0)
            news = list(client.execute(leases(claims)))
        assert sum(isinstance(item, Executed) for item in news) == 2
    assert service.process.returncode == 0, service.log.read_text()
    jobs = [span for span in collector.spans if span.name == "generate video"]
    told = [{one.key: one.value.string_value for one in span.attributes} for span in jobs]
    assert {one["videogen.job_id"] for one in told} == {claim.request.id for claim in claims}
    assert {one["dagster.run_id"] for one in told} == {"run-7"}
    assert {(span.trace_id.hex(), span.parent_span_id.hex()) for span in jobs} == {(TRACE, PARENT)}
    below = [span for span in collector.spans if span.parent_span_id in {job.span_id for job in jobs}]
    assert {"queue", "step", "publish"} <= {span.name for span in below}


def test_no_endpoint_is_no_tracing_and_no_import():
    program = (
        "import sys; from videogen.serving.telemetry.tracing import Tracing\n"
        "assert Tracing.from_environment({}) is None\n"
        "print([name for name in sys.modules if name.startswith('opentelemetry')])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
