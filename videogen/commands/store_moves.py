"""`videogen store migrate`, `compare`, `repair` and `cut-over`: from one store to another, or two at once."""

from collections.abc import Callable, Generator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from videogen.errors import InvalidRequest
from videogen.settings import read_settings
from videogen.words import counted

if TYPE_CHECKING:
    from videogen.store.backends.dual.pair import DualRecordStore
    from videogen.store.moving.migration import Progress, Tally

LISTED = 20
DualUrl = Annotated[
    str | None,
    typer.Argument(help="'dual:ONE|OTHER'; by default VIDEOGEN_STORE_URL.", show_default=False),
]


def migrate(
    source: Annotated[str, typer.Option("--from", help="The store that is copied; it is only read.")],
    target: Annotated[str, typer.Option("--to", help="The store that it is copied to.")],
    verify: Annotated[bool, typer.Option("--verify", help="Compare every record afterwards, by digest.")] = False,
    layout: Annotated[
        str | None,
        typer.Option(
            help="--from is a Redis of another service: `typescript`, or a TOML file that says which keys hold what.",
            show_default=False,
        ),
    ] = None,
    into_used: Annotated[
        bool, typer.Option("--into-used", help="--to holds records of its own: keep them, and add what it lacks.")
    ] = False,
) -> None:
    """Copy a store to another backend: every record with its map and its expiry.

    A store in use is refused as a target. With --into-used it is added to: what it holds stays, and what both hold and
    differs is listed.

    Start it again if it was broken off: what is there and the same is left alone. A first pass may run while the source
    is in use; make the last one while nothing writes, then point VIDEOGEN_STORE_URL to the new store. The old one is
    not changed, so the way back is to point to it again, as long as the new one has taken nothing in. To move without a
    pause, and with a way back at any time, hold both for a while: see `videogen store cut-over`.

    With --layout, videos with their requests, requests that wait and sessions are taken in from a Redis that another
    service filled. What has no place here is counted and listed, and the command ends with code 1.
    """
    if layout is not None:
        if into_used:
            raise InvalidRequest("--into-used", "with --layout", "without: that adds to what --to holds by itself")
        _take_in(source, target, verify, layout)
        return
    from videogen.store.backends.catalog import open_existing, open_records
    from videogen.store.moving.migration import compare
    from videogen.store.moving.target import has_joined, source_name
    from videogen.store.moving.target import migrate as copy

    if source == target:
        raise InvalidRequest("--to", target, "another store than --from")
    with closing(open_existing(source)) as old:
        if not any(old.names()):
            raise InvalidRequest("--from", source, "a store that holds records; this one holds none")
        with closing(open_records(target)) as new:
            name = source_name(old, _in_full(source))
            found = watched("copying", lambda tell: copy(old, new, name, tell, into_used))
            copied = counted(found.copied, "record")
            typer.echo(f"{copied} copied, {found.same:,} were there already, {found.gone:,} expired meanwhile")
            kept, joined = found.different, has_joined(new, name)
            _tell("stays as --to has it", kept)
            found = replace(found, different=())
            if verify:
                found = watched("comparing", lambda tell: compare(old, new, tell, joined))
                typer.echo(f"{found.same:,} of {found.seen - found.gone:,} records are the same ({_by_kind(found)})")
                found = replace(found, different=tuple(one for one in found.different if one not in kept))
    _end(found)


def _in_full(url: str) -> str:
    """The same for a folder however it is written."""
    scheme, _, rest = url.partition(":")
    return f"{scheme}:{Path(rest.removeprefix('//')).resolve()}" if scheme == "embedded" else url


def _take_in(source: str, target: str, verify: bool, name: str) -> None:
    from videogen.commands.submit import Acceptor
    from videogen.opening import open_artifacts
    from videogen.store.moving.foreign_import import ForeignImport
    from videogen.store.moving.foreign_redis import ForeignRedis, read_layout
    from videogen.store.store import Store

    layout = read_layout(name)
    with closing(ForeignRedis(source, layout)) as theirs, Store.open(target) as ours:
        acceptor = Acceptor(ours, open_artifacts(read_settings()))
        taking = ForeignImport(theirs, ours, lambda fields: acceptor.accept_all([("", fields)])[0], Path(name).stem)
        found = watched("taking in", taking.run)
        typer.echo(f"{found.copied:,} taken in, {found.same:,} were there already ({_by_kind(found)})")
        unmapped = found.damaged
        if verify:
            found = watched("comparing", taking.verify)
            typer.echo(f"{found.same:,} are the same, {len(found.different):,} differ")
    _end(replace(found, damaged=unmapped), "has no place here")


def _by_kind(found: "Tally") -> str:
    return ", ".join(f"{count:,} {kind}" for kind, count in sorted(found.by_kind.items())) or "nothing"


def compare(url: DualUrl = None) -> None:
    """Compare two stores that are written together, record by record; changes nothing.

    Ends with code 1 if they differ. In use, records may differ that are just being written.
    """
    from videogen.store.moving.migration import compare as compared

    with _two(url) as dual:
        roles = dual.pair.roles()
        found = watched("comparing", lambda tell: compared(roles.primary.records, roles.secondary.records, tell))
        missed = sum(1 for _ in dual.pair.missed_by(roles.primary).marks())
    typer.echo(
        f"{found.same:,} of {found.seen - found.gone:,} records of {roles.primary.name}, the primary, are the same"
    )
    typer.echo(f"{len(found.different):,} differ, {missed:,} are listed as missed by {roles.secondary.name}")
    _end(found)
    if missed:
        raise typer.Exit(1)


def repair(url: DualUrl = None) -> None:
    """Make two stores the same that are written together: the primary's records in the other, and what it lost in it.

    It is the first thing to do when a second store is added, and safe while both are in use.
    """
    from videogen.store.backends.dual.mending import repair as mend
    from videogen.store.backends.dual.mending import replay

    with _two(url) as dual:
        primary, secondary = dual.pair.roles().primary.records, dual.pair.roles().secondary.records
        missed = replay(primary, secondary)
        found = watched("repairing", lambda tell: mend(primary, secondary, tell))
    typer.echo(f"{missed:,} missed records replayed, {found.copied:,} made the same, {found.same:,} were the same")
    _end(found)


def cut_over(
    to: Annotated[str | None, typer.Option("--to", help="The one of the two that becomes the primary.")] = None,
    back: Annotated[bool, typer.Option("--undo", help="Bring back the primary before this one.")] = False,
    lost: Annotated[
        bool, typer.Option("--lost", help="The primary is gone for good: what only it held is given up.")
    ] = False,
    url: Annotated[str | None, typer.Option("--store", help="'dual:ONE|OTHER'; by default VIDEOGEN_STORE_URL.")] = None,
) -> None:
    """Make the other of two stores the primary, without a restart of anything.

    First everything is compared while both are in use. Then writes wait for some ten seconds, the last differences are
    settled, and the pointer moves. If the two cannot be made the same, everything stays as it was. Both stores go on to
    be written, so `--undo` loses nothing either.
    """
    from videogen.store.backends.dual.sides import side_name
    from videogen.store.moving import cutover

    if (to is None) is not back:
        raise InvalidRequest("--to", to, "the URL of one of the two, or --undo instead")
    with _two(url) as dual:
        if to is None:
            standing = cutover.undo(dual, typer.echo)
        elif lost:
            standing = cutover.give_up_primary(dual, side_name(to))
        else:
            standing = cutover.cut_over(dual, side_name(to), typer.echo)
    typer.echo(f"the primary is {standing.primary}")


@contextmanager
def _two(url: str | None) -> "Generator[DualRecordStore]":
    from videogen.store.backends.catalog import BACKENDS, open_existing
    from videogen.store.backends.dual.pair import DualRecordStore

    url = url or read_settings().store_url
    with closing(open_existing(url)) as records:
        if not isinstance(records, DualRecordStore):
            raise InvalidRequest("store", url, BACKENDS["dual"][0])
        yield records


def _end(found: "Tally", damaged: str = "cannot be read") -> None:
    _tell(damaged, found.damaged)
    _tell("differs", found.different)
    if not found.is_clean:
        raise typer.Exit(1)


def _tell(what: str, names: Sequence[str]) -> None:
    for name in names[:LISTED]:
        typer.echo(f"{what}: {name}", err=True)
    if len(names) > LISTED:
        typer.echo(f"{what}: {len(names) - LISTED:,} more", err=True)


def watched(what: str, work: "Callable[[Progress], Tally]") -> "Tally":
    """Does the work under a line that says how far it is."""
    from rich.console import Console

    console = Console(stderr=True)
    with console.status(what) as status:
        return work(lambda tally: status.update(f"{what}: {tally.seen:,} records, {tally.copied:,} copied"))
