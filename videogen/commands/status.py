"""`videogen status`: what waits, what is being made, what ended, and who answers."""

import dataclasses
import json
from collections import Counter
from collections.abc import Collection
from typing import TYPE_CHECKING, Annotated, Any

import typer

from videogen.opening import open_store
from videogen.settings import Settings, read_settings
from videogen.words import counted

if TYPE_CHECKING:
    from videogen.store.records import BatchRecord, Champion, RequestRecord
    from videogen.store.store import Store

LATEST = 10
MOST_COUNTED = 10_000


def status(
    model: Annotated[str, typer.Option(help="Whose champion to show.")] = "videogen-tiny",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Show the queue, the open batches, the latest requests and the champion.

    Example: `videogen status --json | jq .queue`
    """
    settings = read_settings()
    store = open_store(settings)
    seen = look(store, model)
    if as_json:
        typer.echo(json.dumps(seen))
    else:
        tell(seen)
    if told := _nobody_begins(store, seen["queue"], settings):
        typer.echo(told, err=True)


def _nobody_begins(store: "Store", queue: Collection[str], settings: Settings) -> str:
    from videogen.commands.waiting import hint

    first = store.requests(("queued",), limit=1)
    return hint(queue, settings, store.records.now() - first[0].submitted_at) if first else ""


def look(store: "Store", model: str) -> dict[str, Any]:
    """What `videogen status` shows, as plain values."""
    from videogen.store.records import END_STATES, LIVE_STATES, OPEN_BATCH_STATES

    champion = store.champion(model)
    live = store.requests(LIVE_STATES, limit=MOST_COUNTED)
    ended = store.requests(END_STATES, limit=LATEST)
    batches = [batch for state in OPEN_BATCH_STATES for batch in store.batches(state=state)]
    return {
        "champion": champion and _champion(champion),
        "queue": dict(Counter(record.state for record in live)),
        "batches": [_batch(batch) for batch in batches],
        "requests": [_request(record) for record in [*live[:LATEST], *ended]],
    }


def _champion(champion: "Champion") -> dict[str, Any]:
    return {
        "label": champion.label,
        "digest": champion.version_digest,
        "targets": {target: dataclasses.asdict(engine) for target, engine in champion.targets.items()},
        "previous": champion.previous and champion.previous.label,
    }


def _batch(batch: "BatchRecord") -> dict[str, Any]:
    size, model = len(batch.request_ids), batch.label
    return {"id": batch.id, "state": batch.state, "requests": size, "model": model, "attempt": batch.attempt}


def _request(record: "RequestRecord") -> dict[str, Any]:
    request = record.accepted.request if record.accepted else None
    return {
        "id": record.id,
        "state": record.state,
        "progress": record.progress,
        "model": record.label,
        "seed": request and request.seed,
        "prompt": request.prompt if request else "",
        "error": record.error,
    }


def tell(seen: dict[str, Any]) -> None:
    """The same for people."""
    champion = seen["champion"]
    if champion:
        engines = ", ".join(f"{target} {engine['precision']}" for target, engine in champion["targets"].items())
        before = f"; before it {champion['previous']}" if champion["previous"] else ""
        typer.echo(f"champion  {champion['label']} ({engines}){before}")
    else:
        typer.echo("champion  none yet: make demo makes one, or register a version and let make dev measure it")
    waiting = ", ".join(f"{count} {state}" for state, count in seen["queue"].items())
    typer.echo(f"queue     {waiting or 'empty'}")
    for batch in seen["batches"]:
        requests = counted(batch["requests"], "request")
        typer.echo(f"batch     {batch['id']}  {batch['state']}, {requests}, attempt {batch['attempt']}")
    for number, record in enumerate(seen["requests"]):
        state = f"running {record['progress']:.0%}" if record["state"] == "running" else record["state"]
        between = "" if number else "\n"
        typer.echo(
            f"{between}{record['id']}  {state:<12}  seed {'unknown' if record['seed'] is None else record['seed']}"
        )
        typer.echo(f"  {record['error'] or record['prompt']}")
