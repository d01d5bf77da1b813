"""`make demo`: the whole story on this machine, with a real daemon, and then it ends."""

import contextlib
import os
import sys
from pathlib import Path

from rich.console import Console

from deploy.local import environment, processes
from deploy.local.damage import damage
from deploy.local.publication import write_requests
from deploy.local.story import Story
from deploy.local.timings import Timings
from videogen.errors import VideogenError
from videogen.settings import Settings, read_settings

MODEL = "videogen-tiny"
SHIPPED = environment.ROOT / "models" / MODEL
VERSIONS = {"1": "many steps, with guidance", "2": "few steps, without guidance"}


def main() -> None:
    console = Console(highlight=False, soft_wrap=True)
    processes.interrupt_on_sigterm()
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")  # the making of its tables is no part of the story
    settings = read_settings()
    try:
        tell(settings, console)
    except VideogenError as error:
        console.print(f"\n✗ {error}", style="red", markup=False)
        console.print(f"State and logs are in {settings.home}; run it again to go on from here.", markup=False)
        sys.exit(1)
    except KeyboardInterrupt:
        console.print("\nstopped; run it again to go on from here")
        sys.exit(130)


def tell(settings: Settings, console: Console) -> None:
    """The five parts of the story; each finds out by itself what an earlier telling left."""
    folder = settings.home / "demo"
    variables = environment.prepare(settings)
    with contextlib.ExitStack() as stack:
        timings = stack.enter_context(Timings())
        story = stack.enter_context(Story(settings, variables, console, timings))

        story.part(1, "Two versions of videogen-tiny go into a local MLflow")
        story.fetch_metrics()
        first, second = (story.register(MODEL, SHIPPED / name, what) for name, what in VERSIONS.items())

        story.part(2, "The daemon's version sensor takes them up: build, measure, promote")
        verdicts = [story.follow(version, expected="promoted") for version in (first, second)]

        story.part(3, "A third version: good manifest, loads, runs, but damaged in its weights")
        third = story.register(MODEL, damage(SHIPPED / "2", folder / "damaged"), "damaged on the spot by the demo")
        verdicts.append(story.follow(third, expected="refused"))

        story.part(4, "Requests are queued; the request sensor makes batches, a run answers them")
        ids = story.answer(write_requests(folder / "requests.jsonl"))

        story.part(5, "What came of it")
        story.publish(folder, list(zip((first, second, third), verdicts, strict=True)), ids)
    finish(settings, console, timings, folder)


def finish(settings: Settings, console: Console, timings: Timings, folder: Path) -> None:
    timings.write(folder / "timings.json")
    seconds = sum(phase.seconds for phase in timings.phases)
    work = [phase for phase in timings.phases if phase.name != "report"]
    reused = [phase.name for phase in work if phase.reused]
    console.print()
    if len(reused) == len(work):
        console.print("Everything was there already and unchanged: all of it was reused.")
    elif reused:
        console.print(f"Reused, for nothing about it changed: {', '.join(reused)}.", markup=False)
    peak = max(phase.peak_memory for phase in timings.phases)
    console.print(f"{seconds:.0f} s, at most {peak / 2**30:.1f} GiB of memory; by phase in {folder / 'timings.json'}")
    console.print(f"`make dev` shows all of it in Dagster and MLflow. State is in {settings.home}.")


if __name__ == "__main__":
    main()
