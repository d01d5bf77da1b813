"""`videogen bench load` against a real service: what it counts is what happened."""

import json
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from contextlib import contextmanager

import pytest
from typer.testing import CliRunner

from tests.fixtures.servers import free_port, send
from tests.serving.running import serving
from videogen.cli import app

pytestmark = pytest.mark.slow
COMMAND = [sys.executable, "-c", "from videogen.cli import app; app()", "bench", "load"]
SHORT = ("--mix", "short:1:1")
"""One step of the synthetic device: some 50 ms."""


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("serve") / "home", VIDEOGEN_TENANT_STREAMS="1000") as one:
        yield one


def run(*arguments):
    return CliRunner().invoke(app, ["bench", "load", *map(str, arguments)], env={"COLUMNS": "200"})


def measured(tmp_path, *arguments):
    done = run(*arguments, "--json", tmp_path / "out.json")
    assert done.exit_code == 0, done.output
    return json.loads((tmp_path / "out.json").read_text())


@pytest.mark.parametrize("face", ["http", "grpc"])
def test_everything_that_was_due_is_sent_answered_and_counted(service, tmp_path, face):
    url = service.url if face == "http" else f"127.0.0.1:{service.grpc}"
    before = accepted(service)
    plot = tmp_path / "plot.svg"
    found = measured(
        tmp_path, url, "--face", face, "--rate", 10, "--seconds", 3, "--mix", "interactive:0.7:1,batch:0.3:2",
        "--duplicates", 0.3, "--slo", 30, "--plot", plot,
    )  # fmt: skip
    whole, parts = found["all"], found["classes"].values()
    assert whole["sent"] == whole["answered"] == whole["good"] == len(found["requests"]) > 10
    assert sum(part["sent"] for part in parts) == whole["sent"] and set(found["classes"]) == {"interactive", "batch"}
    assert accepted(service) - before == whole["sent"]
    assert found["repeats"]["sent"] == sum(request["repeat"] for request in found["requests"]) > 0
    assert found["budget_spent"] == 0 and found["generator"]["cpu_s"] > 0
    assert all(request["took"] >= 0.04 for request in found["requests"] if not request["repeat"])
    assert plot.read_text().count("<polyline") >= 5


def accepted(service):
    """Jobs that the service says it accepted."""
    with urllib.request.urlopen(service.url + "/metrics") as answer:
        lines = [line for line in answer.read().decode().splitlines() if line.startswith("videogen_jobs_total{")]
    return sum(float(line.split()[-1]) for line in lines)


def test_a_service_that_stands_still_shows_in_all_that_was_due_meanwhile(service, tmp_path):
    out, pause_s = tmp_path / "out.json", 1.5
    arguments = [service.url, "--rate", "20", "--seconds", "5", "--uniform", *SHORT, "--json", str(out)]
    with subprocess.Popen([*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as load:
        before = accepted(service)
        while accepted(service) < before + 10:
            assert load.poll() is None
            time.sleep(0.05)
        send(service.process, signal.SIGSTOP)
        stopped = time.time()
        time.sleep(pause_s)
        went_on = time.time()
        send(service.process, signal.SIGCONT)
        told, _ = load.communicate(timeout=60)
    assert load.returncode == 0, told
    found = json.loads(out.read_text())
    due = [(found["started_at"] + one["at"], one["took"]) for one in found["requests"]]
    hit = [(at, took) for at, took in due if stopped <= at < went_on]
    assert len(hit) >= 0.9 * 20 * pause_s  # a generator that waits for answers sends one of them
    assert all(took >= went_on - at - 0.05 for at, took in hit)
    assert found["all"]["latency"]["p90"] > pause_s / 2


def test_ctrl_c_ends_the_sending_and_tells_what_there_is(service, tmp_path):
    out = tmp_path / "out.json"
    arguments = [service.url, "--rate", "20", "--seconds", "600", *SHORT, "--json", str(out)]
    before = accepted(service)
    with subprocess.Popen([*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as load:
        while accepted(service) < before + 10:
            assert load.poll() is None
            time.sleep(0.05)
        load.send_signal(signal.SIGINT)
        told, _ = load.communicate(timeout=60)
    assert load.returncode == 0 and b"answers/s" in told, told
    whole = json.loads(out.read_text())["all"]
    assert whole["sent"] == whole["answered"] == accepted(service) - before


def test_refusals_are_told_from_failures_and_say_when_to_come_again(service, tmp_path):
    out = tmp_path / "out.json"
    done = run(service.url, "--rate", 5, "--seconds", 1, "--deadline", 0.002, "--json", out)
    found = json.loads(out.read_text())
    assert done.exit_code == 1  # nothing was answered
    assert found["all"]["refused"] == found["all"]["sent"] > 0
    assert found["reasons"] == {"overloaded": found["all"]["sent"]} and not found["refused_without_retry_after"]
    done = run(service.url, "--rate", 5, "--seconds", 1, "--mix", "impossible:1:9999", "--json", out)
    found = json.loads(out.read_text())
    assert (done.exit_code, found["all"]["failed"]) == (1, found["all"]["sent"])
    assert "HTTP 400 invalid_value: num_inference_steps" in done.output
    done = run(
        f"127.0.0.1:{service.grpc}", "--face", "grpc", "--rate", 5, "--seconds", 1, "--deadline", 0.002, "--json", out
    )
    found = json.loads(out.read_text())
    assert found["all"]["refused"] == found["all"]["sent"] and not found["refused_without_retry_after"]


def test_a_refusal_for_want_of_streams_names_what_sets_them(tmp_path):
    with serving(tmp_path / "home", VIDEOGEN_TENANT_STREAMS="1") as one:
        for face, url in (("http", one.url), ("grpc", f"127.0.0.1:{one.grpc}")):
            done = run(url, "--face", face, "--rate", 20, "--seconds", 1, *SHORT)
            assert "at most 1 streams at once" in done.output and "VIDEOGEN_TENANT_STREAMS=1000" in done.output


def test_a_missed_objective_ends_with_1(service):
    done = run(f"127.0.0.1:{service.http}", "--rate", 5, "--seconds", 1, "--slo", 0.001)
    assert done.exit_code == 1 and "error budget: overspent, 100.0 times what there is" in done.output


def test_the_bound_on_what_waits_counts_as_failed(service, tmp_path):
    found = measured(tmp_path, service.url, "--rate", 100, "--seconds", 1, "--uniform", *SHORT, "--connections", 2)
    assert found["all"]["failed"] > 50 and found["all"]["answered"] > 2
    assert list(found["reasons"]) == ["not sent: 2 requests were waiting already"]


def test_a_trace_is_replayed_when_and_as_it_says(service, tmp_path):
    trace = tmp_path / "trace"
    trace.write_text('{"at": 0.4, "steps": 1}\n{"at": 0.1, "priority": "batch", "steps": 1}\n')
    found = measured(tmp_path, service.url, "--trace", trace)
    asked = [(one["at"], one["class"], one["outcome"]) for one in found["requests"]]
    assert asked == [(0.1, "batch, 1 steps", "answered"), (0.4, "standard, 1 steps", "answered")]
    done = run(service.url, "--trace", trace, "--mix", "a:1")
    assert done.exit_code == 2 and "trace: got" in done.stderr


def test_nobody_there_and_what_is_no_service_are_one_clear_line(tmp_path):
    for face, url in (("http", f"http://127.0.0.1:{free_port()}"), ("grpc", f"127.0.0.1:{free_port()}")):
        done = run(url, "--face", face)
        assert done.exit_code == 1 and done.stderr.count("\n") == 1, done.output
        assert url in done.stderr and "is it running? start it with: videogen serve" in done.stderr
    with answering(b"not HTTP at all\r\n\r\n") as port:
        done = run(f"http://127.0.0.1:{port}")
        assert done.exit_code == 1 and "not an answer in HTTP" in done.stderr
    with answering(b"HTTP/1.1 503 Busy\r\ncontent-length: 5\r\n\r\nbusy!") as port:
        done = run(f"http://127.0.0.1:{port}")
        assert done.exit_code == 1 and "is not ready: HTTP 503 busy!" in done.stderr


def test_answers_that_are_no_mp4_or_break_off_have_failed(tmp_path):
    whole = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nabcd"
    with answering(whole) as port:
        done = run(f"http://127.0.0.1:{port}", "--rate", 20, "--seconds", 0.5)
        assert done.exit_code == 1 and "not an MP4" in done.output
    with answering(whole, then=b"HTTP/1.1 200 OK\r\ncontent-length: 400\r\n\r\nabcd") as port:
        done = run(f"http://127.0.0.1:{port}", "--rate", 20, "--seconds", 0.5)
        assert done.exit_code == 1 and "closed the connection" in done.output


@contextmanager
def answering(first, then=None):
    """A server that answers `first` to its first connection's request and `then` to those of later ones, and closes."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        ended = threading.Event()

        def answer():
            answers = first
            while not ended.is_set():
                try:
                    connection, _ = server.accept()
                except TimeoutError:
                    continue
                with connection:
                    connection.settimeout(10)
                    connection.recv(65536)
                    connection.sendall(answers)
                answers = then or answers

        thread = threading.Thread(target=answer)
        thread.start()
        yield server.getsockname()[1]
        ended.set()
        thread.join(30)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("ftp://127.0.0.1:8000",), "URL: got 'ftp://127.0.0.1:8000'; allowed: http://"),
        (("http://127.0.0.1:port",), "URL: got"),
        (("http://127.0.0.1", "--face", "grpc"), "URL: got 'http://127.0.0.1'; allowed: HOST:PORT"),
        (("--mix", "80/20"), "mix: got '80/20'; allowed: NAME:SHARE"),
        (("--plot", "a.png"), "plot: got 'a.png'"),
        (("--plot", "/nowhere/a.svg"), "plot: got '/nowhere/a.svg'; allowed: a file that may be written"),
        (("--json", "/nowhere/a.json"), "json: got '/nowhere/a.json'"),
        (("--json", "/"), "json: got '/'"),
        (("--trace", "nowhere"), "trace: got 'nowhere'"),
    ],
)
def test_bad_input_ends_with_2_and_names_it(arguments, named):
    done = run(*arguments)
    assert done.exit_code == 2 and named in done.stderr, done.output
