"""The `videogen` command: its sub-commands, and what becomes of errors."""

import importlib.metadata
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from videogen.commands.bench_load import bench
from videogen.commands.dead_letters import dead_letters
from videogen.commands.doctor import doctor
from videogen.commands.generate import generate
from videogen.commands.keys import keys
from videogen.commands.models import models
from videogen.commands.plan import plan
from videogen.commands.serve import serve
from videogen.commands.show import show
from videogen.commands.simulate import simulate
from videogen.commands.status import status
from videogen.commands.store import store
from videogen.commands.submit import submit
from videogen.commands.top import top
from videogen.commands.webhooks import webhooks
from videogen.errors import InvalidRequest, InvalidSetting, InvalidStoreUrl, VersionNotFound, VideogenError

BAD_INPUT = 2
AT_FAULT = InvalidRequest | InvalidSetting | InvalidStoreUrl | VersionNotFound
"""What says that the one who typed the command can mend it."""


class Commands(TyperGroup):
    """Errors that videogen or the system foresees end a command with one line; code 2 for bad input, else 1."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except VideogenError as error:
            typer.echo(f"videogen: {' '.join(str(error).split())}", err=True)
            raise typer.Exit(BAD_INPUT if isinstance(error, AT_FAULT) else 1) from error
        except BrokenPipeError:  # what reads the output wants no more
            raise
        except OSError as error:  # a full disk, a folder that may not be written
            where = f"{error.filename}: " if error.filename else ""
            typer.echo(f"videogen: {where}{error.strerror or error}", err=True)
            raise typer.Exit(1) from error


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Make videos from text, and look after the models that make them.\n\n"
    "`videogen generate` makes one video now. `videogen submit` queues requests for the batch lane, where a Dagster "
    "sensor gathers them into batches; `status` and `show` follow them. `make dev` starts what answers them.",
)


def tell_version(is_wanted: bool) -> None:
    if is_wanted:
        typer.echo(f"videogen {importlib.metadata.version('videogen')}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=tell_version, help="Say which version this is.")
    ] = False,
) -> None:
    pass


app.command()(submit)
app.command()(status)
app.command()(show)
app.command()(generate)
app.command()(serve)
app.add_typer(models, name="models")
app.add_typer(dead_letters, name="dead-letters")
app.add_typer(store, name="store")
app.add_typer(keys, name="keys")
app.add_typer(webhooks, name="webhooks")
app.command()(simulate)
app.command()(plan)
app.command()(doctor)
app.command()(top)
app.add_typer(bench, name="bench")
