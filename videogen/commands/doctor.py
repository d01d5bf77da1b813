"""`videogen doctor`: what is in place on this machine, and how to mend what is not."""

from typing import Annotated

import typer

from videogen.settings import read_settings

MARKS = {"ok": "[green]ok[/green]  ", "note": "[cyan]note[/cyan]", "fix": "[red]fix[/red] "}


def doctor(
    quick: Annotated[bool, typer.Option("--quick", help="Leave out what takes seconds: MLflow and Dagster.")] = False,
) -> None:
    """Check this machine: packages, store, artifacts, registry, Dagster, devices, codecs; each trouble with its fix.

    Ends with code 1 when something needs fixing. Notes are things that work, but that you may want to know.
    """
    from rich.console import Console
    from rich.markup import escape

    from videogen.commands import examinations

    console = Console(highlight=False, soft_wrap=True)
    settings = read_settings()
    broken = 0
    for name, examine in examinations.EXAMINATIONS.items():
        if quick and name in examinations.SLOW:
            continue
        for finding in examine(settings):
            broken += finding.state == "fix"
            console.print(f"{MARKS[finding.state]} {name:<10} {escape(finding.what)}")
            if finding.remedy:
                console.print(f"     {'':<10} → {escape(finding.remedy)}")
    console.print("all is well" if not broken else f"{broken} to fix")
    if broken:
        raise typer.Exit(1)
