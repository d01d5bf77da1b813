"""The service's log: lines for people, or one JSON object a line; what a line is about stands in fields of its own.

Fields come from `about`, which holds for all that a task logs meanwhile, or from the call's `extra`. No prompt is
logged unless somebody asked for it.
"""

import contextlib
import contextvars
import json
import logging
import sys
from collections.abc import Generator, Mapping
from datetime import UTC, datetime
from typing import Literal, TextIO

from videogen.serving.telemetry.observing import Ended, Observer, Refusal, Submitted

LogFormat = Literal["human", "json"]
FIELDS = (
    *("request_id", "job_id", "tenant", "key_id", "model", "priority", "cache"),
    *("outcome", "reason", "seconds", "gpu_seconds", "error", "run_id", "prompt"),
)
logger = logging.getLogger("videogen.serving")
_about: contextvars.ContextVar[Mapping[str, object]] = contextvars.ContextVar("about")


def configure(log_format: LogFormat, level: int = logging.INFO, stream: TextIO | None = None) -> None:
    """Makes the process log in this form, and only so, to `stream` (stderr if None)."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonLines() if log_format == "json" else HumanLines())
    logging.basicConfig(level=level, handlers=[handler], force=True)


@contextlib.contextmanager
def about(**fields: object) -> Generator[None]:
    """What is logged meanwhile, in this task and those that it starts, is about this too."""
    token = _about.set({**_about.get({}), **fields})
    try:
        yield
    finally:
        _about.reset(token)


def fields_of(record: logging.LogRecord) -> dict[str, object]:
    """The fields of a line that have a value, in the order of `FIELDS`."""
    given = {**_about.get({}), **record.__dict__}
    return {name: given[name] for name in FIELDS if given.get(name) is not None}


class JsonLines(logging.Formatter):
    """One object a line: time (ISO 8601, UTC), level, logger, message, the fields, and an exception's traceback."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": _time(record).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **fields_of(record),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


class HumanLines(logging.Formatter):
    """Time (UTC), level, message, and the fields as name=value. What came from outside cannot begin a line."""

    def format(self, record: logging.LogRecord) -> str:
        fields = "".join(f"  {name}={_one_line(value)}" for name, value in fields_of(record).items())
        time, level = _time(record).strftime("%H:%M:%S.%f")[:-3], record.levelname.lower()
        line = f"{time} {level:<7} {_one_line(record.getMessage())}{fields}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class JobLog(Observer):
    """A line for each job that was accepted, and one for its end. `with_prompts`: with what was asked for."""

    def __init__(self, *, with_prompts: bool = False) -> None:
        self.with_prompts = with_prompts

    def submitted(self, job: Submitted) -> None:
        asked = job.prompt if self.with_prompts else None
        logger.info("job accepted", extra={**_of(job), "cache": job.cache, "prompt": asked})

    def refused(self, why: Refusal) -> None:
        logger.info("request refused", extra={"reason": why})

    def ended(self, job: Ended) -> None:
        facts = {"outcome": job.outcome, "error": job.error, "run_id": job.run_id}
        times = {"seconds": round(job.ended_at - job.accepted_at, 6), "gpu_seconds": round(job.gpu_seconds, 6)}
        level = logging.WARNING if job.outcome == "failed" else logging.INFO
        logger.log(level, "job ended", extra={**_of(job), **facts, **times})


def _of(job: Submitted | Ended) -> dict[str, object]:
    return {"job_id": job.job_id, "tenant": job.tenant, "model": job.model, "priority": job.priority}


def _time(record: logging.LogRecord) -> datetime:
    return datetime.fromtimestamp(record.created, UTC)


def _one_line(value: object) -> str:
    text = str(value)
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
