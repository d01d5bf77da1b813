"""`videogen store …`: look after the store, on whichever backend it is."""

import contextlib
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from videogen.commands import store_replicate
from videogen.commands.findings import Report
from videogen.errors import InvalidRequest
from videogen.settings import read_settings

if TYPE_CHECKING:
    from videogen.store.migration import Progress, Tally

LISTED = 20

store = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown", help="Look after the store.")

Url = Annotated[
    str | None,
    typer.Argument(
        help="embedded:FOLDER, aerospike://HOST[:PORT][,HOST…]/NAMESPACE, redis://HOST[:PORT][/NUMBER]; "
        "by default VIDEOGEN_STORE_URL.",
        show_default=False,
    ),
]


@store.command()
def doctor(url: Url = None) -> None:
    """Check a live server against what the store needs: each setting that does not suit, with its fix.

    Ends with code 1 when something needs fixing. Notes are things that work, but that you may want to know. An embedded
    store that is not there is not made.
    """
    from videogen.store.backends.catalog import open_existing

    report, records = Report(), open_existing(url or read_settings().store_url)
    try:
        report.tell("store", records.examine())
    finally:
        records.close()
    report.end()


@store.command()
def stats(
    url: Url = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
    as_prometheus: Annotated[bool, typer.Option("--prometheus", help="Prometheus's text format.")] = False,
) -> None:
    """Count what a store holds: requests by lane, state and tenant, leases, batches, videos, champions.

    It is safe on a store in use, and costs about the same however much there is: of each thing it reads the first
    10,000, and says which counts were cut short by that.
    """
    from videogen.commands.store_stats import as_plain, print_stats
    from videogen.store.backends.catalog import open_existing
    from videogen.store.store import Store

    url = url or read_settings().store_url
    with contextlib.closing(open_existing(url)) as records:
        if as_prometheus:
            from videogen.store.metrics import StoreMetrics

            metrics = StoreMetrics()
            held = Store(metrics.metered(records, url.partition(":")[0]))
            typer.echo(metrics.exposition(held), nl=False)
        elif as_json:
            typer.echo(json.dumps(as_plain(Store(records).stats())))
        else:
            print_stats(Store(records).stats())


@store.command()
def migrate(
    source: Annotated[str, typer.Option("--from", help="The store that is copied; it is only read.")],
    target: Annotated[str, typer.Option("--to", help="The store that it is copied to.")],
    verify: Annotated[bool, typer.Option("--verify", help="Compare every record afterwards, by digest.")] = False,
) -> None:
    """Copy a store to another backend: every record with its map and its expiry.

    Start it again if it was broken off: what is there and the same is left alone. A first pass may run while the source
    is in use; make the last one while nothing writes, then point VIDEOGEN_STORE_URL to the new store. The old one is
    not changed, so the way back is to point to it again, as long as the new one has taken nothing in.
    """
    from videogen.store.backends.catalog import open_existing, open_records
    from videogen.store.migration import compare
    from videogen.store.migration import migrate as copy

    if source == target:
        raise InvalidRequest("--to", target, "another store than --from")
    old = open_existing(source)
    if not any(old.names()):
        raise InvalidRequest("--from", source, "a store that holds records; this one holds none")
    new = open_records(target)
    try:
        found = _watched("copying", lambda tell: copy(old, new, tell))
        typer.echo(
            f"{found.copied:,} records copied, {found.same:,} were there already, {found.gone:,} expired meanwhile"
        )
        if verify:
            found = _watched("comparing", lambda tell: compare(old, new, tell))
            kinds = ", ".join(f"{count:,} {kind}" for kind, count in sorted(found.by_kind.items()))
            typer.echo(f"{found.same:,} of {found.seen - found.gone:,} records are the same ({kinds})")
    finally:
        old.close()
        new.close()
    for what, names in (("cannot be read", found.damaged), ("differs", found.different)):
        for name in names[:LISTED]:
            typer.echo(f"{what}: {name}", err=True)
    if not found.is_clean:
        raise typer.Exit(1)


def _watched(what: str, work: "Callable[[Progress], Tally]") -> "Tally":
    """Does the work under a line that says how far it is."""
    from rich.console import Console

    console = Console(stderr=True)
    with console.status(what) as status:
        return work(lambda tally: status.update(f"{what}: {tally.seen:,} records, {tally.copied:,} copied"))


store.command()(store_replicate.replicate)
