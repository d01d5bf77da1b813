"""What `videogen submit --wait` does once its requests are queued: follow them, save the videos, say how they ended."""

import json
import time
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from videogen.commands.examinations import daemon_absence
from videogen.commands.show import kept_at, save
from videogen.errors import VideogenError
from videogen.settings import Settings
from videogen.words import counted

if TYPE_CHECKING:
    from videogen.store.records import RequestRecord
    from videogen.store.store import Store

POLL_SECONDS = 0.5
PATIENT_SECONDS = 60.0


class NotAnswered(VideogenError):
    """Some requests failed, or were not answered in the time that was given."""


def wait_for(store: "Store", ids: Sequence[str], timeout: float, settings: Settings) -> "list[RequestRecord]":
    """The requests once all have ended, or after `timeout` seconds; shows progress on the error stream.

    Says once what to start if nobody has begun any of them, at once where no daemon lives that would.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    start, is_told = time.monotonic(), False
    columns = (TextColumn("answered"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True, highlight=False, soft_wrap=True)) as progress:
        task = progress.add_task("", total=len(ids))
        while True:
            records, waited = [store.request(one) for one in ids], time.monotonic() - start
            ended = sum(not record.is_live for record in records)
            progress.update(task, completed=ended)
            if ended == len(ids) or waited > timeout:
                return records
            if not is_told and (told := hint([record.state for record in records], settings, waited)):
                is_told = True
                progress.console.print(f"{told}; this waits on, for {timeout:.0f} s at most", markup=False)
            time.sleep(POLL_SECONDS)


def hint(states: Collection[str], settings: Settings, waited: float) -> str:
    """What to start, if all of them are still queued after so many seconds; else nothing.

    A daemon that lives is given the time of a few of its ticks; where there is none, nobody else begins a batch.
    """
    if any(state != "queued" for state in states):
        return ""
    asleep, daemon = daemon_absence(settings), f"the Dagster daemon of {settings.dagster_home}"
    if asleep:
        return f"nobody has begun: {daemon} {asleep}; `make dev` starts it"
    if waited <= PATIENT_SECONDS:
        return ""
    return f"nobody has begun, though {daemon} is alive: does its request sensor run (as in `make dev`)?"


def tell_ends(
    store: "Store", records: "Sequence[RequestRecord]", folder: Path | None, settings: Settings, as_json: bool
) -> None:
    """Saves every video that was made and prints a line per request. Raises NotAnswered unless all are done."""
    for record in records:
        video = _saved(store, record, folder, settings)
        if as_json:
            typer.echo(json.dumps(in_brief(record) | {"video": video and str(video), "error": record.error}))
        else:
            seed = record.accepted.request.seed if record.accepted else "unknown"
            end = f"{record.id}  {record.state}  seed {seed}  {video or record.error or ''}"
            typer.echo(end.rstrip(), err=record.state != "done")
    waiting, done = sum(record.is_live for record in records), sum(record.state == "done" for record in records)
    if done < len(records):
        failed = f"{len(records) - done - waiting} of {counted(len(records), 'request')} failed"
        still = f"{waiting} still {'waits' if waiting == 1 else 'wait'}"
        raise NotAnswered(f"{failed}, {still}; videogen status shows the queue")


def in_brief(record: "RequestRecord") -> dict[str, Any]:
    """A request as one JSON object of a few fields."""
    request = record.accepted.request if record.accepted else None
    return {
        "id": record.id,
        "state": record.state,
        "label": record.label,
        "seed": request and request.seed,
        "fingerprint": record.accepted and record.accepted.fingerprint,
        "prompt": request and request.prompt,
    }


def _saved(store: "Store", record: "RequestRecord", folder: Path | None, settings: Settings) -> Path | None:
    if record.state != "done" or not record.video:
        return None
    path = folder / f"{record.id}.mp4" if folder else kept_at(settings, record)
    save(store, record.video, record.generation, path)
    return path
