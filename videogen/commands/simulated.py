"""What `videogen simulate` and `videogen plan` share: the device's costs, the kinds of requests, progress."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from videogen.errors import ArtifactCorrupt, ArtifactMissing, InvalidRequest
from videogen.opening import open_artifacts, open_store
from videogen.settings import read_settings

if TYPE_CHECKING:
    from videogen.engines.profile import LatencyProfile
    from videogen.scheduling.arrivals import Kind
    from videogen.scheduling.costs import Costs

KEY = "default"
LONG = 4
"""A long request takes so many times the steps of a short one."""
SYNTHETIC_STEPS = 4
MODEL = "videogen-tiny"

Profile = Annotated[Path | None, typer.Option(help="A latency profile (JSON). [default: the champion's warm-up]")]
Synthetic = Annotated[bool, typer.Option("--synthetic", help="A device whose step takes 40 + 5·B ms.")]
Steps = Annotated[int | None, typer.Option(min=1, max=1000, help="Denoising steps. [default: the profile's, or 4]")]
Model = Annotated[str, typer.Option(help="Whose champion's profile to read.")]


@dataclass(frozen=True, slots=True)
class Device:
    """What one device takes, and in words where that is from."""

    costs: "Costs"
    streams: int
    steps: int
    source: str


def device(profile: Path | None, synthetic: bool, steps: int | None, model: str) -> Device:
    """Raises InvalidRequest for options that do not go together, ArtifactMissing where nothing was measured yet."""
    from videogen.scheduling.costs import Affine

    if synthetic:
        if profile:
            raise InvalidRequest("profile", str(profile), "either --profile or --synthetic")
        return Device(Affine(0.04, 0.005), 1, steps or SYNTHETIC_STEPS, "synthetic: a step takes 40 + 5·B ms")
    from videogen.engines.profile import LatencyProfile

    if profile is None:
        return _measured(*_of_champion(model), steps)
    if not profile.is_file():
        raise InvalidRequest("profile", str(profile), "a latency profile, a JSON file that exists")
    try:
        found = LatencyProfile.from_json(profile.read_text())
    except (ArtifactCorrupt, UnicodeDecodeError) as error:
        raise InvalidRequest("profile", str(profile), "a latency profile, as a warm-up writes it in JSON") from error
    return _measured(found, str(profile), steps)


def _measured(profile: "LatencyProfile", source: str, steps: int | None) -> Device:
    from videogen.engines.step_costs import step_costs
    from videogen.scheduling.costs import Profiled

    table = step_costs(profile)
    steps = steps or profile.num_inference_steps
    best = max(table.step, key=lambda at: at[0] * at[1] / (steps * table.step[at] + table.rest[at]))
    busy = "" if profile.exclusive else ", measured while other work ran"
    return Device(Profiled({KEY: table}), best[1], steps, f"{source}: {profile.target} on {profile.device}{busy}")


def _of_champion(model: str) -> "tuple[LatencyProfile, str]":
    """The latest profile on this machine of an engine that serves; one that nothing disturbed before one of others."""
    from videogen.engines.profile import LatencyProfile
    from videogen.warming import KIND, PROFILE

    settings = read_settings()
    champion = open_store(settings).champion(model)
    helps = "name one with --profile FILE, or try --synthetic"
    if champion is None:
        raise ArtifactMissing(f"{model} has no champion whose profile could be read; {helps}")
    engines = {engine.engine_key for engine in champion.targets.values()}
    files = (open_artifacts(settings).root / KIND).glob(f"*/{PROFILE}")
    found = [
        (profile, path)
        for path in files
        if (profile := LatencyProfile.from_json(path.read_text())).engine_key in engines
    ]
    if not found:
        raise ArtifactMissing(f"no latency profile of {champion.label} was measured on this machine; {helps}")
    profile, _ = max(found, key=lambda each: (each[0].exclusive, each[1].stat().st_mtime))
    return profile, champion.label


def kinds(mix: str, steps: int) -> "list[Kind]":
    """`80/20`: shares of short and of long requests; `100` is short ones alone."""
    from videogen.scheduling.arrivals import Kind

    parts = mix.split("/")
    if not (1 <= len(parts) <= 2 and all(part.isdecimal() for part in parts) and sum(map(int, parts)) == 100):
        raise InvalidRequest("mix", mix, "percentages of short and long requests that make 100, such as 80/20 or 100")
    shares = zip(("short", "long"), (1, LONG), map(int, parts), strict=False)
    return [Kind(name, times * steps, share / 100, KEY) for name, times, share in shares if share]


@contextmanager
def progress(what: str) -> Generator[Callable[[float], object]]:
    """Gives what is to be told the share that is done; shown on the error stream if a person watches it."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    console = Console(stderr=True, highlight=False)
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as shown:
        task = shown.add_task(what, total=1.0)
        yield lambda share: shown.update(task, completed=share)
