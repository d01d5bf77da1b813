"""`videogen doctor`: what is in place on this machine, and how to mend what is not."""

from typing import Annotated

import typer

from videogen.commands.findings import Report
from videogen.settings import read_settings


def doctor(
    quick: Annotated[bool, typer.Option("--quick", help="Leave out what takes seconds: MLflow and Dagster.")] = False,
) -> None:
    """Check this machine: packages, store, artifacts, registry, Dagster, devices, codecs; each trouble with its fix.

    Ends with code 1 when something needs fixing. Notes are things that work, but that you may want to know.
    """
    from videogen.commands import examinations

    settings, report = read_settings(), Report()
    for name, examine in examinations.EXAMINATIONS.items():
        if not (quick and name in examinations.SLOW):
            report.tell(name, examine(settings))
    report.end()
