"""What the log's lines hold, as whoever collects them reads them."""

import asyncio
import io
import json
import logging
from datetime import datetime

import pytest

from tests.serving.test_metrics import ended, submitted
from videogen.serving.telemetry.logs import JobLog, about, configure

logger = logging.getLogger("videogen.serving.somewhere")


@pytest.fixture
def lines():
    root = logging.getLogger()
    before = root.handlers[:], root.level
    stream = io.StringIO()

    def start(log_format):
        for handler in root.handlers[:]:
            root.removeHandler(handler)  # pytest's own, which `configure` would close
        configure(log_format, stream=stream)
        return lambda: stream.getvalue().splitlines()

    yield start
    root.handlers[:], root.level = before[0], before[1]


def test_json_lines_are_objects_with_fields(lines):
    read = lines("json")
    with about(request_id="r-1", tenant="acme"):
        logger.info("two\nlines of %s", "text", extra={"job_id": "job-1"})
        try:
            raise RuntimeError("bang")
        except RuntimeError:
            logger.exception("it failed")
    logger.warning("about nothing")
    first, second, third = map(json.loads, read())
    assert first["message"] == "two\nlines of text" and first["level"] == "info"
    assert (first["request_id"], first["tenant"], first["job_id"]) == ("r-1", "acme", "job-1")
    assert datetime.fromisoformat(first["time"]).tzinfo is not None
    assert second["exception"].endswith("RuntimeError: bang") and "job_id" not in second
    assert third["level"] == "warning" and "request_id" not in third


def test_tasks_do_not_mix_what_they_are_about(lines):
    read = lines("json")

    async def one(name):
        with about(request_id=name):
            await asyncio.sleep(0.001)
            logger.info(name)

    async def many():
        await asyncio.gather(*(one(str(number)) for number in range(20)))

    asyncio.run(many())
    assert all(line["message"] == line["request_id"] for line in map(json.loads, read()) if "request_id" in line)
    assert sum("request_id" in line for line in read()) == 20


def test_lines_for_people_stay_one_line_whatever_comes_from_outside(lines):
    read = lines("human")
    logger.info("hello", extra={"tenant": "acme\n00:00:00 info  forged"})
    (line,) = read()
    assert "hello  tenant=acme\\n00:00:00 info  forged" in line and " info " in line


def test_jobs_are_logged_without_prompts_unless_asked(lines):
    read = lines("json")
    import dataclasses

    job = dataclasses.replace(submitted(), prompt="a secret wish")
    JobLog().submitted(job)
    JobLog(with_prompts=True).submitted(job)
    JobLog().refused("overloaded")
    JobLog().ended(ended(outcome="failed", error="out of memory"))
    without, with_prompt, refused, failed = map(json.loads, read())
    assert "secret" not in json.dumps(without) and without["job_id"] == "job-1" and without["cache"] == "miss"
    assert with_prompt["prompt"] == "a secret wish" and refused["reason"] == "overloaded"
    assert (failed["level"], failed["outcome"], failed["error"]) == ("warning", "failed", "out of memory")
    assert failed["seconds"] == 0.6
