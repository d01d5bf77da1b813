"""`videogen submit`: requests into the batch lane."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from videogen.commands.waiting import in_brief, tell_ends, wait_for
from videogen.errors import InvalidRequest
from videogen.opening import open_artifacts, open_store
from videogen.settings import read_settings

if TYPE_CHECKING:
    from videogen.requests import AcceptedRequest
    from videogen.store.store import Store

MAX_COUNT = 1000


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
    timeout: Annotated[
        float, typer.Option(min=0, help="With --wait: give up after so many seconds; the requests stay queued.")
    ] = 600.0,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="With --wait: the folder for the MP4s. [default: var/videos]")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object per request; with --wait, once it is answered.")
    ] = False,
) -> None:
    """Queue requests for videos. A sensor gathers them into batches, a run answers them (start both with `make dev`).

    Prints each request's id, for `videogen show`; with `--wait`, also how each ended and where its video is. The same
    request again, seed included, is answered by the video that is already there. All requests are checked before the
    first one is queued.

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
    lines = list(read_lines(file)) if file else []
    if file and not lines:
        raise InvalidRequest("file", str(file), 'one JSON object per line, such as {"prompt": "…"}; this is empty')
    wishes += [(where, options | fields) for where, fields in lines]
    if not wishes:
        raise InvalidRequest("prompt", None, 'a prompt, or --file; for example: videogen submit "a large red ring …"')
    if output and not (wait and (output.is_dir() or not output.exists())):
        raise InvalidRequest("output", str(output), "with --wait, a folder; without it, nothing: videogen show saves")
    settings = read_settings()
    store = open_store(settings)
    accepted = Acceptor(store, open_artifacts(settings)).accept_all(with_seeds(wishes, count, seed))
    ids = [queue(store, one, as_json, wait) for one in accepted]
    if wait:
        tell_ends(store, wait_for(store, ids, timeout, settings), output, settings, as_json)


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


def queue(store: "Store", accepted: "AcceptedRequest", as_json: bool, wait: bool) -> str:
    """Queues one request and returns its id. Says so, unless its one JSON object is to say how it ended."""
    record = store.submit(accepted, "cli")
    if as_json and not wait:
        typer.echo(json.dumps(in_brief(record)))
    elif not as_json:
        state = "done, it was there already" if record.state == "done" else record.state
        typer.echo(f"{record.id}  {accepted.label}  seed {accepted.request.seed}  {state}")
    return str(record.id)
