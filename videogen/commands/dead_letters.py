"""`videogen dead-letters …`: requests that failed, and asking them again."""

import json
from typing import TYPE_CHECKING, Annotated

import typer

from videogen.commands.show import find
from videogen.commands.waiting import in_brief
from videogen.errors import InvalidRequest
from videogen.opening import open_store
from videogen.settings import read_settings

if TYPE_CHECKING:
    from videogen.store.records import RequestRecord

MOST = 10_000

dead_letters = typer.Typer(
    no_args_is_help=True, rich_markup_mode="markdown", help="Look at the requests that failed, and ask them again."
)


@dead_letters.command("list")
def list_letters(
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=MOST, help="How many at most.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per request.")] = False,
) -> None:
    """List the requests that failed and that nobody has asked again, latest first, each with its last error.

    A fault that may pass, such as a worker that died, is tried three times before its request fails. A fault of the
    request itself fails it at once: asked again, it will most likely fail again. They are kept for seven days.

    Example: `videogen dead-letters list --json | jq -r .error | sort | uniq -c`
    """
    store = open_store(read_settings())
    letters, now = store.dead_letters(limit), store.records.now()
    for letter in letters:
        ago = now - (letter.ended_at or now)
        if as_json:
            facts = {"error": letter.error, "attempts": letter.attempts, "seconds_ago": round(ago, 3)}
            typer.echo(json.dumps(in_brief(letter) | facts))
        else:
            tell(letter, ago)
    if not letters and not as_json:
        typer.echo("no request has failed that was not asked again")


@dead_letters.command()
def requeue(
    request_ids: Annotated[
        list[str] | None, typer.Argument(metavar="[REQUEST_ID]…", help="As `videogen dead-letters list` prints them.")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="All that the list shows.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per request.")] = False,
) -> None:
    """Ask failed requests again, each under a new id, with new attempts and, if it had a deadline, a new one.

    The failed request stays failed and leaves the list. Asked again twice, it is one new request all the same.

    Examples:

    `videogen dead-letters requeue 019ab7c2-…`

    `videogen dead-letters requeue --all`, once what made them fail is mended
    """
    if bool(request_ids) == every:
        raise InvalidRequest("request", request_ids or None, "ids of failed requests, or --all, but not both")
    store = open_store(read_settings())
    letters = store.dead_letters(MOST) if every else [find(store, request_id) for request_id in request_ids or []]
    for letter in letters:
        if letter.state != "failed" or letter.accepted is None:
            raise InvalidRequest("request", letter.id, f"one that failed and can be read; this is {letter.state}")
    for letter in letters:
        heir = store.requeue(letter.id)
        if as_json:
            typer.echo(json.dumps({"failed": letter.id} | in_brief(heir)))
        else:
            typer.echo(f"{letter.id}  requeued as {heir.id}  {heir.state}")
    if every and not letters and not as_json:
        typer.echo("no request has failed that was not asked again")


def tell(letter: "RequestRecord", seconds_ago: float) -> None:
    """A failed request, for people."""
    seed = letter.accepted.request.seed if letter.accepted else "unknown"
    tries = "1 attempt" if letter.attempts == 1 else f"{letter.attempts} attempts"
    typer.echo(f"{letter.id}  {letter.label}  seed {seed}  {tries}  {_age(seconds_ago)} ago\n  {letter.error}")


def _age(seconds: float) -> str:
    for unit, size in (("days", 86_400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} seconds"
