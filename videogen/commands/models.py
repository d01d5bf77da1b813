"""`videogen models`: what the registry holds, what serves, and the way back."""

from pathlib import Path
from typing import Annotated

import typer

from videogen.errors import InvalidRequest
from videogen.labels import parse_label
from videogen.opening import open_registry, open_store
from videogen.settings import read_settings

models = typer.Typer(no_args_is_help=True, help="List, register, promote and roll back model versions.")

CANDIDATE = "candidate"

Name = Annotated[str, typer.Argument(help="The model's name, such as videogen-tiny.")]
Label = Annotated[str, typer.Argument(metavar="NAME@VERSION", help="One version, such as videogen-tiny@2.")]


@models.command("list")
def list_versions(name: Annotated[str | None, typer.Argument(help="Only this model.")] = None) -> None:
    """List versions with their aliases and digests; the champion is the one that answers requests."""
    from rich.console import Console
    from rich.table import Table

    settings = read_settings()
    registry, store = open_registry(settings), open_store(settings)
    table = Table("version", "serves", "aliases", "digest", "description", box=None, pad_edge=False)
    for model in [name] if name else registry.models():
        champion = store.champion(model)
        for version in registry.versions(model):
            serves = "champion" if champion and champion.version_digest == version.digest else ""
            digest = (version.digest or "no manifest")[:12]
            table.add_row(version.label, serves, " ".join(version.aliases), digest, version.description)
    if not table.row_count:
        typer.echo(
            f"no version of {name or 'any model'} yet; make one with: videogen models register FOLDER --name NAME"
        )
        return
    Console(highlight=False).print(table)


@models.command()
def register(
    folder: Annotated[Path, typer.Argument(help="A model in diffusers' folder form; safetensors only.")],
    name: Annotated[str, typer.Option(help="The model it is a version of.")],
    description: Annotated[str, typer.Option(help="What is new in it.")] = "",
) -> None:
    """Make a folder the next version of a model; the version sensor then has it built, measured, promoted or refused.

    The very same files again give the version that they already are.

    Example: `videogen models register models/videogen-tiny/2 --name videogen-tiny --description "4 steps"`
    """
    if not folder.is_dir():
        raise InvalidRequest("folder", str(folder), "a folder that exists")
    version = open_registry(read_settings()).register(name, folder, description)
    typer.echo(f"{version.label} {version.digest}")


@models.command()
def promote(label: Label) -> None:
    """Ask for a version to be promoted: what is not measured yet is measured, and it is promoted if it passes.

    What was measured on the same weights, engine, device and champion is kept, and is not measured again. This sets
    the alias `candidate`, which the version sensor follows. Nothing serves that has not passed its gates.
    """
    name, version = parse_label(label)
    registry = open_registry(read_settings())
    if CANDIDATE in registry.version(name, version).aliases:
        typer.echo(f"{label} is the candidate of {name} already; its checks in Dagster say what came of it")
        return
    registry.set_alias(name, CANDIDATE, version)
    typer.echo(f"{label} is the candidate of {name}; the version sensor takes it from there")


@models.command()
def rollback(name: Name) -> None:
    """Bring the previous champion back, at once and without a rebuild."""
    from videogen.promotion import roll_back

    settings = read_settings()
    champion, unmirrored = roll_back(open_store(settings), open_registry(settings), name)
    typer.echo(f"{champion.label} serves {name} again")
    if unmirrored:
        typer.echo(f"MLflow could not be told; the version sensor will: {unmirrored}", err=True)


@models.command()
def info(label: Label) -> None:
    """Show one version: digest, source, aliases, tags, and the page about it."""
    name, version = parse_label(label)
    registry = open_registry(read_settings())
    found = registry.version(name, version)
    lines = {
        "digest": found.digest or "no manifest",
        "source": found.source,
        "aliases": " ".join(found.aliases) or "none",
        "description": found.description or "none",
        **{f"tag {key}": value for key, value in sorted(found.tags.items())},
        "page": registry.ui_url(found) or "none: MLflow has no address; start it with make dev",
    }
    typer.echo(found.label)
    for key, value in lines.items():
        typer.echo(f"  {key}: {value}")


@models.command()
def card(label: Label) -> None:
    """Print a version's card: what it was trained on, how often it is right, its limits."""
    import tempfile

    from rich.console import Console
    from rich.markdown import Markdown

    name, version = parse_label(label)
    with tempfile.TemporaryDirectory() as scratch:
        folder = open_registry(read_settings()).pull(name, version, Path(scratch) / "model")
        text = folder / "README.md"
        if not text.is_file():
            raise InvalidRequest("version", label, "a version whose folder has a README.md, its card")
        Console().print(Markdown(text.read_text()))
