"""`videogen store …`: look after the store, on whichever backend it is."""

import contextlib
import json
from typing import Annotated

import typer

from videogen.commands import store_moves, store_replicate
from videogen.commands.findings import Report
from videogen.errors import InvalidStoreUrl, StoreUnavailable
from videogen.findings import Finding
from videogen.settings import read_settings

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
    from videogen.commands.store_absence import next_step
    from videogen.store.backends.catalog import open_existing

    report, url = Report(), url or read_settings().store_url
    try:
        with contextlib.closing(open_existing(url)) as records:
            report.tell("store", records.examine())
    except InvalidStoreUrl:
        raise
    except StoreUnavailable as error:
        report.tell("store", [Finding("fix", str(error), next_step(url))])
    report.end()


@store.command()
def stats(
    url: Url = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
    as_prometheus: Annotated[bool, typer.Option("--prometheus", help="Prometheus's text format.")] = False,
) -> None:
    """Count what a store holds: requests by lane, state and tenant, leases, batches, videos, champions.

    And what became of them: how the latest were answered, joins, retries, leases that ran out; what the services that
    live tell of the videos in their memory; and how long the store took to answer this command.

    It is safe on a store in use, and costs about the same however much there is: of each thing it reads the first
    10,000, and says which counts were cut short by that.
    """
    from videogen.commands.store_stats import as_plain, print_stats
    from videogen.store.backends.catalog import open_existing
    from videogen.store.metrics import StoreMetrics
    from videogen.store.store import Store

    url, metrics = url or read_settings().store_url, StoreMetrics()
    with contextlib.closing(metrics.metered(open_existing(url), url.partition(":")[0])) as records:
        held = Store(records)
        if as_prometheus:
            typer.echo(metrics.exposition(held), nl=False)
        elif as_json:
            typer.echo(json.dumps(as_plain(held.stats())))
        else:
            print_stats(held.stats(), metrics.calls())


for move in (store_moves.migrate, store_moves.compare, store_moves.repair, store_moves.cut_over):
    store.command()(move)
store.command()(store_replicate.replicate)
