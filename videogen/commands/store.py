"""`videogen store …`: look after the store, on whichever backend it is."""

from typing import Annotated

import typer

from videogen.commands.findings import Report
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

    Ends with code 1 when something needs fixing. Notes are things that work, but that you may want to know.
    """
    from videogen.store.backends.catalog import open_records

    report, records = Report(), open_records(url or read_settings().store_url)
    try:
        report.tell("store", records.examine())
    finally:
        records.close()
    report.end()
