"""`videogen store replicate`: passes of a replicator one after the other, with a line for each."""

import time
from contextlib import closing
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from videogen.errors import InvalidRequest, StoreUnavailable

if TYPE_CHECKING:
    from videogen.store.moving.replication import Pass, Replicator


def replicate(
    source: Annotated[str, typer.Option("--from", help="The store that is copied from; it is only read.")],
    target: Annotated[str, typer.Option("--to", help="The store that it is copied to.")],
    once: Annotated[bool, typer.Option("--once", help="One pass, then end.")] = False,
    every: Annotated[float, typer.Option(help="Seconds between passes.", min=0.1)] = 30.0,
    from_start: Annotated[bool, typer.Option("--from-start", help="Look at everything in the first pass.")] = False,
) -> None:
    """Keep a second store's videos up to date with a first one's: finished videos and what they answer, one way.

    For Aerospike's community edition, which does not copy between data centres, and for any other pair. It goes on
    where it was when it is started again, and waits for a store that is away. It does not copy requests, sessions or
    champions; what was finished since the last pass is only in the first store; and both stores' clocks must agree, for
    a video expires by the clock of the store that it is in. The lag stands in `videogen store stats` of the second one.
    With `--once` it ends with code 1 if something was damaged, or changed meanwhile.
    """
    from videogen.store.backends.catalog import open_existing, open_records
    from videogen.store.moving.replication import Replicator
    from videogen.store.moving.target import source_name

    if source == target:
        raise InvalidRequest("--to", target, "another store than --from")
    with closing(open_existing(source)) as old, closing(open_records(target)) as new:
        _follow(Replicator(old, new, source_name(old, source)), None if once else every, from_start)


def _follow(replicator: "Replicator", every_s: float | None, from_start: bool) -> None:
    """Passes until the user interrupts, or one if `every_s` is None."""
    while True:
        try:
            done = _pass(replicator, from_start)
        except StoreUnavailable as error:
            if every_s is None:
                raise
            typer.echo(f"{_clock()}  a store is away: {error}", err=True)
        else:
            from_start = False
            _tell(done)
            if every_s is None and (done.left or done.damaged):
                raise typer.Exit(1)
        if every_s is None:
            return
        time.sleep(every_s)


def _pass(replicator: "Replicator", from_start: bool) -> "Pass":
    from rich.console import Console

    with Console(stderr=True).status("copying") as status:
        return replicator.run(
            from_start, lambda done: status.update(f"copying: {done.seen:,} seen, {done.videos:,} videos copied")
        )


def _tell(done: "Pass") -> None:
    copied = f"{done.videos:,} videos ({done.bytes:,} bytes) and {done.generations:,} generations copied"
    left = f", {done.left:,} changed meanwhile and left for the next pass" if done.left else ""
    typer.echo(f"{_clock()}  {copied}{left}; {done.seen:,} looked at; lag {done.lag_s:.1f} s")
    for name in done.damaged:
        typer.echo(f"cannot be copied, it is damaged: {name}", err=True)


def _clock() -> str:
    return datetime.now(UTC).strftime("%H:%M:%SZ")
