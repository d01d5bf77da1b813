"""`videogen webhooks …`: addresses that could not be told how a video ended, and calling them again."""

import json
from dataclasses import asdict
from typing import Annotated

import typer

from videogen.errors import InvalidRequest
from videogen.opening import open_store
from videogen.settings import read_settings

MOST = 10_000

webhooks = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Look at webhooks whose calls were given up, and have them called again.",
)


@webhooks.command("list")
def list_dead(
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=MOST, help="How many at most.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per webhook.")] = False,
) -> None:
    """List the webhooks that were given up, latest first: the video, the address, how it answered the last call.

    A call that fails is repeated over 18 hours; one answered with 410 Gone is not. They are kept for seven days.

    Example: `videogen webhooks list --json | jq -r .url | sort | uniq -c`
    """
    with open_store(read_settings()) as store:
        dead = store.webhooks.list_dead(limit)
    for one in dead:
        calls = "1 call" if one.attempts == 1 else f"{one.attempts} calls"
        typer.echo(json.dumps(asdict(one)) if as_json else f"{one.id}  {one.url}  {calls}\n  {one.error}")
    if not dead and not as_json:
        typer.echo("no webhook was given up")


@webhooks.command()
def retry(
    video_ids: Annotated[
        list[str] | None, typer.Argument(metavar="[VIDEO_ID]…", help="As `videogen webhooks list` prints them.")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="All that the list shows.")] = False,
) -> None:
    """Have webhooks called again that were given up, as often as a new one. The services on this store do it.

    Example: `videogen webhooks retry --all`, once the receiver answers again
    """
    if bool(video_ids) == every:
        raise InvalidRequest("video", video_ids or None, "ids of videos whose webhooks were given up, or --all")
    with open_store(read_settings()) as store:
        chosen = [one.id for one in store.webhooks.list_dead(MOST)] if every else video_ids or []
        for video_id in chosen:
            if not store.webhooks.call_again(video_id):
                raise InvalidRequest("video", video_id, "one whose webhook was given up: see `videogen webhooks list`")
            typer.echo(f"{video_id}  is called again")
    if not chosen:
        typer.echo("no webhook was given up")
