"""How findings look on a terminal."""

from collections.abc import Iterable

import typer

from videogen.findings import Finding

MARKS = {"ok": "[green]ok[/green]  ", "note": "[cyan]note[/cyan]", "fix": "[red]fix[/red] "}


class Report:
    """Prints findings as they come; `end` says how many are to be fixed."""

    def __init__(self) -> None:
        from rich.console import Console

        self._console, self._broken = Console(highlight=False, soft_wrap=True), 0

    def tell(self, name: str, findings: Iterable[Finding]) -> None:
        from rich.markup import escape

        for finding in findings:
            self._broken += finding.state == "fix"
            self._console.print(f"{MARKS[finding.state]} {name:<10} {escape(finding.what)}")
            if finding.remedy:
                self._console.print(f"     {'':<10} → {escape(finding.remedy)}")

    def end(self) -> None:
        """Ends the command with code 1 if something is to be fixed."""
        self._console.print("all is well" if not self._broken else f"{self._broken} to fix")
        if self._broken:
            raise typer.Exit(1)
