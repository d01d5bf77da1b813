"""A served job as its operators see it: `videogen serve` with a synthetic device, a collector, a scrape, its log."""

import json
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import httpx
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc
from prometheus_client.parser import text_string_to_metric_families
from typer.testing import CliRunner

from tests.serving.running import serving
from tests.serving.test_tracing import HEADER, PARENT, TRACE, Receiver
from videogen.cli import app
from videogen.client.sync import Client


@pytest.fixture
def receiver():
    receiver, server = Receiver(), grpc.server(ThreadPoolExecutor(2))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(receiver, server)
    receiver.port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield receiver
    server.stop(0)


def spans_of(receiver):
    resources = [resource for request in receiver.requests for resource in request.resource_spans]
    return [span for resource in resources for scope in resource.scope_spans for span in scope.spans]


@pytest.mark.slow
def test_a_job_is_in_the_trace_the_metrics_the_log_and_top(tmp_path, receiver):
    settings = {
        "VIDEOGEN_TENANT_RPM": "0.1",
        "VIDEOGEN_TENANT_BURST": "2",
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{receiver.port}",
    }
    body = {"prompt": "a large red ring moving left", "seed": 1}
    with serving(tmp_path, None, "--log-format", "json", **settings) as service:
        base, rpc, log = service.url, service.grpc, service.log
        headers = {"traceparent": HEADER, "x-request-id": "req-of-mine", "idempotency-key": "k"}
        asked = httpx.post(f"{base}/v1/videos", json=body, headers=headers)
        assert asked.status_code == 200 and asked.headers["x-request-id"] == "req-of-mine", asked.text
        assert asked.headers["x-ratelimit-limit-requests"] == "2"
        job_id = asked.json()["id"]
        again = {"idempotency-key": "k", "traceparent": HEADER.replace("b7", "b8")}
        repeated = httpx.post(f"{base}/v1/videos", json=body, headers=again)  # another attempt, another span
        assert repeated.json()["id"] == job_id, repeated.text
        refused = httpx.post(f"{base}/v1/videos", json=body)
        assert refused.status_code == 429 and int(refused.headers["retry-after"]) > 60
        with Client(f"127.0.0.1:{rpc}") as client:
            _wait(lambda: client.get(job_id).status == "completed")
        _wait(lambda: _value(base, "videogen_jobs_ended_total", outcome="completed") == 1)
        assert _value(base, "videogen_refusals_total", reason="rate_limited") == 1
        assert _value(base, "videogen_jobs_total") == 1
        assert _value(base, "videogen_stage_seconds_count", stage="step") == 1
        _wait(lambda: (_value(base, "videogen_batch_size_count") or 0) > 0)
        told = CliRunner().invoke(app, ["top", "--once", "--address", f"127.0.0.1:{rpc}"]).output
        assert "1 completed" in told and "1 rate limited" in told and "engine       ready" in told
    assert service.process.returncode == 0, log.read_text()
    spans = spans_of(receiver)
    (job,) = (span for span in spans if span.name == "generate video")
    assert job.trace_id.hex() == TRACE and job.parent_span_id.hex() == PARENT
    assert {"queue", "step", "publish"} <= {span.name for span in spans if span.parent_span_id == job.span_id}
    lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    accepted = next(line for line in lines if line["message"] == "job accepted")
    assert (accepted["job_id"], accepted["request_id"], accepted["tenant"]) == (job_id, "req-of-mine", "default")
    assert any(line["message"] == "job ended" and line["outcome"] == "completed" for line in lines)
    assert "large red ring" not in log.read_text()


def _value(base: str, name: str, **labels: str) -> float | None:
    families = text_string_to_metric_families(httpx.get(f"{base}/metrics").text)
    samples = [one for family in families for one in family.samples if one.name == name]
    found = [one.value for one in samples if labels.items() <= one.labels.items()]
    return sum(found) if found else None


def _wait(done) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            if done():
                return
        except httpx.TransportError:
            pass
        assert time.monotonic() < deadline
        time.sleep(0.1)
