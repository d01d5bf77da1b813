"""What `videogen bench load` may be told."""

from pathlib import Path
from typing import Annotated, Literal

import typer

Url = Annotated[str | None, typer.Argument(metavar="URL", help="[default: where `videogen serve` is]")]
Rate = Annotated[float, typer.Option(min=0.001, max=100_000, help="Requests a second, on average.")]
Seconds = Annotated[float, typer.Option(min=0.1, max=86_400, help="For which requests are sent.")]
Uniform = Annotated[bool, typer.Option("--uniform", help="At equal distances, not at random (Poisson).")]
Trace = Annotated[
    Path | None,
    typer.Option(
        help="Arrivals to replay instead of --rate, --seconds and --mix: lines of JSON, such as "
        '`{"at": 0.25, "priority": "batch", "steps": 8, "deadline": 2}`.'
    ),
]
Mix = Annotated[
    str | None, typer.Option(help="Classes, NAME:SHARE or NAME:SHARE:STEPS; a priority's name sets the priority.")
]
Duplicates = Annotated[float, typer.Option(min=0, max=1, help="Share that asks what was asked before.")]
Cache = Annotated[
    bool, typer.Option("--cache/--no-cache", help="Ask what the last such run asked; or what nobody ever asked.")
]
Deadline = Annotated[
    float | None, typer.Option(min=0.001, help="Seconds, sent with each request: the service may refuse it.")
]
Slo = Annotated[
    float | None, typer.Option(min=0.001, help="Seconds within which an answer is good: for goodput and budget.")
]
Objective = Annotated[
    float, typer.Option(min=0, max=0.999999, help="Share that shall be good; the rest is the error budget.")
]
FaceName = Annotated[Literal["http", "grpc"], typer.Option(help="POST /v1/videos/sync, or Generate.")]
Prompt = Annotated[
    str | None, typer.Option(help="The same for all. [default: what videogen-tiny knows, another each time]")
]
Connections = Annotated[
    int, typer.Option(min=1, max=60_000, help="At most so many wait at once; what would be more counts as failed.")
]
Timeout = Annotated[float, typer.Option(min=0.1, help="Seconds after which a request has failed.")]
ApiKey = Annotated[
    str | None, typer.Option(envvar="VIDEOGEN_API_KEY", show_envvar=True, help="None is needed on loopback.")
]
Seed = Annotated[int, typer.Option(help="The same seed draws the same arrivals, classes and prompts.")]
JsonFile = Annotated[Path | None, typer.Option("--json", help="Write all of it, each request too, here.")]
Plot = Annotated[Path | None, typer.Option(help="Write a chart of the latencies to this SVG file.")]
