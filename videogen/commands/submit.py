"""`videogen submit`: requests into the batch lane."""

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from videogen.errors import InvalidRequest, VideogenError
from videogen.opening import open_artifacts, open_store
from videogen.settings import read_settings

if TYPE_CHECKING:
    from videogen.requests import AcceptedRequest
    from videogen.store.store import Store

MAX_COUNT = 1000
POLL_SECONDS = 0.5
ENDED = ("done", "failed", "cancelled", "expired")


class NotAnswered(VideogenError):
    """Some requests failed, or were not answered in the time that was given."""


def submit(
    prompts: Annotated[list[str] | None, typer.Argument(help="What each video shows; quote it.")] = None,
    file: Annotated[
        Path | None, typer.Option("--file", "-f", help="JSON lines, one request each, all its fields; `-` reads stdin.")
    ] = None,
    count: Annotated[int, typer.Option(min=1, max=MAX_COUNT, help="Videos per prompt, each with its own seed.")] = 1,
    seed: Annotated[
        int | None, typer.Option(help="The first seed; more count up from it. Without it, seeds are drawn.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="The model. [default: videogen-tiny@champion]")] = None,
    steps: Annotated[int | None, typer.Option(help="Denoising steps. [default: the model's]")] = None,
    guidance_scale: Annotated[
        float | None, typer.Option(help="How hard to follow the prompt. [default: the model's]")
    ] = None,
    negative_prompt: Annotated[str | None, typer.Option(help="What the video shall not show.")] = None,
    priority: Annotated[str | None, typer.Option(help="interactive, standard or batch. [default: standard]")] = None,
    tenant: Annotated[str | None, typer.Option(help="Who asks. [default: default]")] = None,
    deadline: Annotated[float | None, typer.Option(help="Seconds from now after which a request fails.")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Stay until every request is answered.")] = False,
    timeout: Annotated[float, typer.Option(help="With --wait: give up after so many seconds.")] = 600.0,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per request.")] = False,
) -> None:
    """Queue requests for videos. A sensor gathers them into batches, a run answers them (start both with `make dev`).

    Prints each request's id, for `videogen show`. The same request again, seed included, is answered by the video that
    is already there. All requests are checked before the first one is queued.

    Examples:

    `videogen submit "a small green star bouncing on a striped background" --count 4 --seed 7`

    `videogen submit --file prompts.jsonl --wait` with lines such as `{"prompt": "…", "seed": 3, "tenant": "studio"}`
    """
    options: dict[str, Any] = {
        "model": model,
        "num_inference_steps": steps,
        "guidance_scale": guidance_scale,
        "negative_prompt": negative_prompt,
        "priority": priority,
        "tenant": tenant,
        "deadline": deadline,
    }
    options = {name: value for name, value in options.items() if value is not None}
    wishes = [("", options | {"prompt": prompt}) for prompt in prompts or []]
    wishes += [(where, options | fields) for where, fields in (read_lines(file) if file else ())]
    if not wishes:
        raise InvalidRequest("prompt", None, 'a prompt, or --file; for example: videogen submit "a large red ring …"')
    settings = read_settings()
    store = open_store(settings)
    accepted = Acceptor(store, open_artifacts(settings)).accept_all(with_seeds(wishes, count, seed))
    ids = [queue(store, one, as_json) for one in accepted]
    if wait:
        wait_for(store, ids, timeout)


class Acceptor:
    """Accepts wishes against the models they name; each model is looked up once."""

    def __init__(self, store: "Store", artifacts: Any) -> None:
        self._store, self._artifacts, self._models = store, artifacts, dict[str, Any]()

    def accept_all(self, wishes: list[tuple[str, dict[str, Any]]]) -> list["AcceptedRequest"]:
        """Accepted requests. Raises InvalidRequest, naming the place of the first bad one."""
        return [self._accept(where, fields) for where, fields in wishes]

    def _accept(self, where: str, fields: dict[str, Any]) -> "AcceptedRequest":
        from videogen.requests import accept, parse_request

        try:
            request = parse_request(fields)
            resolved, vocabulary = self._model(request.model)
            return accept(request, resolved.spec, resolved.version_digest, vocabulary, label=resolved.label)
        except InvalidRequest as error:
            raise type(error)(f"{where}{error.field}", error.given, error.allowed) from error

    def _model(self, reference: str) -> Any:
        from videogen.resolve import resolve_model

        if reference not in self._models:
            resolved = resolve_model(reference, self._store, self._artifacts)
            self._models[reference] = resolved, resolved.vocabulary
        return self._models[reference]


def read_lines(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The requests of a JSON-lines file, each with its place for error messages. Raises InvalidRequest."""
    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequest("file", str(file), f"a text file that can be read ({error})") from error
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        where = f"{file} line {number}: "
        try:
            fields = json.loads(line)
        except json.JSONDecodeError as error:
            raise InvalidRequest(f"{where}request", line, f"one JSON object ({error})") from error
        if not isinstance(fields, dict):
            raise InvalidRequest(f"{where}request", line, 'one JSON object, such as {"prompt": "…"}')
        yield where, fields


def with_seeds(
    wishes: list[tuple[str, dict[str, Any]]], count: int, seed: int | None
) -> list[tuple[str, dict[str, Any]]]:
    """Each wish `count` times; a seed of its own, or else `seed`, counts up over them."""
    made = []
    for where, fields in wishes:
        first = fields.get("seed", seed)
        for index in range(count):
            numbered = {"seed": first + index} if type(first) is int else {}
            made.append((where, fields | numbered))
    return made


def queue(store: "Store", accepted: "AcceptedRequest", as_json: bool) -> str:
    """Queues one request, says so, and returns its id."""
    record = store.submit(accepted, "cli")
    if as_json:
        shown = {"id": record.id, "state": record.state, "label": accepted.label, "seed": accepted.request.seed}
        typer.echo(json.dumps(shown | {"fingerprint": accepted.fingerprint, "prompt": accepted.request.prompt}))
    else:
        state = "done, it was there already" if record.state == "done" else record.state
        typer.echo(f"{record.id}  {accepted.label}  seed {accepted.request.seed}  {state}")
    return str(record.id)


def wait_for(store: "Store", ids: list[str], timeout: float) -> None:
    """Returns when every request is done; shows progress. Raises NotAnswered."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    deadline = time.monotonic() + timeout
    columns = (TextColumn("answered"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("", total=len(ids))
        while True:
            records = [store.request(one) for one in ids]
            ended = [record for record in records if record.state in ENDED]
            progress.update(task, completed=len(ended))
            if len(ended) == len(ids) or time.monotonic() > deadline:
                break
            time.sleep(POLL_SECONDS)
    bad = [record for record in ended if record.state != "done"]
    for record in bad:
        typer.echo(f"{record.id}  {record.state}: {record.error or 'no reason recorded'}", err=True)
    waiting = len(ids) - len(ended)
    if bad or waiting:
        raise NotAnswered(
            f"{len(bad)} of {len(ids)} requests failed, {waiting} still wait; videogen status shows the queue"
        )
