"""`videogen models`: what the registry holds, what serves, and the way back."""

import re
import textwrap
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from videogen.commands.layout import lines
from videogen.errors import ArtifactCorrupt, ArtifactRefused, InvalidRequest
from videogen.labels import parse_label
from videogen.opening import open_artifacts, open_registry, open_store
from videogen.settings import read_settings

if TYPE_CHECKING:
    from videogen.registry import ModelVersion

models = typer.Typer(no_args_is_help=True, help="List, register, promote and roll back model versions.")

SHORT_REASON = 60
INDENT = "  "
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")

Name = Annotated[str, typer.Argument(help="The model's name, such as videogen-tiny.")]
Label = Annotated[str, typer.Argument(metavar="NAME@VERSION", help="One version, such as videogen-tiny@2.")]


@models.command("list")
def list_versions(name: Annotated[str | None, typer.Argument(help="Only this model.")] = None) -> None:
    """List versions with what was decided about them; the champion is the one that answers requests."""
    from rich.console import Console

    settings = read_settings()
    registry, store = open_registry(settings), open_store(settings)
    heads, below = [("version", "serves", "digest", "aliases")], [["what was decided; description"]]
    for model in [name] if name else registry.models():
        champion = store.champion(model)
        for version in registry.versions(model):
            serves = "champion" if champion and champion.version_digest == version.digest else ""
            heads.append((version.label, serves, (version.digest or "no manifest")[:12], " ".join(version.aliases)))
            below.append([_decision(version), version.description])
    if len(heads) == 1:
        typer.echo(
            f"no version of {name or 'any model'} yet; make one with: make demo, or "
            f"videogen models register FOLDER --name {name or 'NAME'}"
        )
        return
    widths, room = [max(map(len, column)) for column in zip(*heads, strict=True)], Console().width
    for head, paragraphs in zip(heads, below, strict=True):
        typer.echo("  ".join(word.ljust(width) for word, width in zip(head, widths, strict=True)).rstrip())
        for paragraph in paragraphs:
            for line in textwrap.wrap(paragraph, room - len(INDENT), break_long_words=False, break_on_hyphens=False):
                typer.echo(f"{INDENT}{line}")


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
    if not (folder / "model_index.json").is_file():
        allowed = "a model in diffusers' folder form: it holds model_index.json and safetensors"
        raise InvalidRequest("folder", str(folder), allowed)
    if not NAME.fullmatch(name):
        raise InvalidRequest("name", name, "letters, digits, '.', '_' and '-', such as videogen-tiny")
    try:
        version = open_registry(read_settings()).register(name, folder, description)
    except (ArtifactRefused, ArtifactCorrupt) as error:
        raise InvalidRequest("folder", str(folder), f"a model that can be read safely: {error}") from error
    typer.echo(f"{version.label} {version.digest}")


@models.command()
def promote(
    label: Label,
    again: Annotated[bool, typer.Option("--again", help="Measure it even if it is the champion already.")] = False,
) -> None:
    """Ask for a version to be promoted: it is measured beside the champion, and promoted if it passes its gates.

    Engines that are there are used again; its speed is measured anew, since a busy minute may have spoilt it. This sets
    the alias `candidate`, which the version sensor follows until the version is promoted or refused.
    """
    from videogen.promotion import ASKED, CANDIDATE, serves

    name, version = parse_label(label)
    settings = read_settings()
    registry = open_registry(settings)
    if not again and serves(open_store(settings), registry, label, settings.targets):
        typer.echo(f"{label} is the champion of {name} already: nothing to do (--again measures it all the same)")
        return
    registry.set_tags(name, version, {ASKED: uuid.uuid4().hex})
    registry.set_alias(name, CANDIDATE, version)
    typer.echo(f"{label} is the candidate of {name}; the version sensor takes it from there")


@models.command()
def rollback(name: Name) -> None:
    """Bring the previous champion back, at once and without a rebuild."""
    from videogen.promotion import roll_back

    settings = read_settings()
    store = open_store(settings)
    if store.champion(name) is None:
        raise InvalidRequest("model", name, "a model with a champion (see: videogen models list)")
    champion, unmirrored = roll_back(store, open_registry(settings), name)
    typer.echo(f"{champion.label} serves {name} again")
    if unmirrored:
        typer.echo(f"MLflow could not be told; the version sensor will: {unmirrored}", err=True)


@models.command()
def info(label: Label) -> None:
    """Show one version: what was decided and why, how far its videos are from the reference, digest, tags, its page."""
    from videogen.judging import told_distances
    from videogen.promotion import DECISION, REASON
    from videogen.quality.reading import HOW_TO_READ

    name, version = parse_label(label)
    settings = read_settings()
    registry = open_registry(settings)
    found = registry.version(name, version)
    distances = told_distances(open_artifacts(settings), found.tags.get("judgement", ""))
    facts = {
        "decision": found.tags.get(DECISION, "none yet"),
        "reason": found.tags.get(REASON),
        "digest": found.digest or "no manifest",
        "source": found.source,
        "aliases": " ".join(found.aliases) or "none",
        "description": found.description or "none",
        "page": registry.ui_url(found) or "none: MLflow has no address; start it with make dev",
        "distances": distances,
        "tags": {key: value for key, value in sorted(found.tags.items()) if key not in (DECISION, REASON)},
    }
    typer.echo(found.label)
    for line in lines(facts, "  "):
        typer.echo(line)
    if distances:
        typer.echo(f"\n{HOW_TO_READ}")


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


def _decision(version: "ModelVersion") -> str:
    """What was decided about a version, and in a few words why; empty while nothing was."""
    from videogen.promotion import DECISION, REASON

    decision, reason = (version.tags.get(tag, "") for tag in (DECISION, REASON))
    return f"{decision}: {textwrap.shorten(reason, SHORT_REASON, placeholder=' …')}" if reason else decision
