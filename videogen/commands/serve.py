"""`videogen serve`: the inference service, until Ctrl-C."""

import asyncio
import os
from typing import Annotated, Literal

import typer

from videogen.opening import require
from videogen.settings import read_settings

LogFormat = Literal["human", "json"]


def serve(
    model: Annotated[
        str,
        typer.Option(
            help="A model, whose champion is followed; NAME@NUMBER for that one, if it is the champion or the one "
            "before; with --ungated any NAME@NUMBER of the registry, or a folder."
        ),
    ] = "videogen-tiny",
    device: Annotated[
        str | None,
        typer.Option(
            help="The one device that it serves on: a GPU's index or UUID, as CUDA_VISIBLE_DEVICES leaves and counts "
            "them, or `cpu`; the first GPU if not given, the CPU without one."
        ),
    ] = None,
    host: Annotated[str, typer.Option(help="The address to listen at.")] = "127.0.0.1",
    http_port: Annotated[int, typer.Option(help="For HTTP; 0 takes a free one.", min=0, max=65535)] = 8000,
    grpc_port: Annotated[int, typer.Option(help="For gRPC; 0 takes a free one.", min=0, max=65535)] = 50051,
    ungated: Annotated[
        bool, typer.Option("--ungated", help="Serve what passed no gates. Its videos are shared with nobody.")
    ] = False,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Let other machines call although no API key was made.")
    ] = False,
    synthetic: Annotated[
        bool, typer.Option("--synthetic", help="A device without networks: for tests of clients and of load.")
    ] = False,
    log_format: Annotated[LogFormat, typer.Option(help="Lines for people, or one JSON object a line.")] = "human",
    log_prompts: Annotated[bool, typer.Option("--log-prompts", help="Log what is asked for, too.")] = False,
    repeats: Annotated[
        bool,
        typer.Option("--repeats", help="While idle, make what will probably be asked for again, with its seed."),
    ] = False,
    grace: Annotated[float, typer.Option(help="Seconds that work in hand gets at the end.", min=0)] = 30.0,
) -> None:
    """Answer requests for videos as they come, over an OpenAI-compatible HTTP API and gRPC.

    It loads the champion's engine, warms it, follows the champion pointer, and shares its queue, cache and sessions
    with every other replica on the same store. Where no engine is proven on this machine yet, it builds and proves
    one first, which may take minutes, and logs each part of that.

    Ctrl-C or SIGTERM finishes or hands back what is in hand, a second one ends it at once.

    Examples:

    `videogen serve` after `make demo`, or without: `videogen serve --model models/videogen-tiny/2 --ungated`

    `curl 127.0.0.1:8000/v1/videos -H 'content-type: application/json' -d '{"prompt": "a large red ring moving left"}'`
    """
    require("fastapi", "serve")
    require("grpc", "serve")
    from videogen.devices import only
    from videogen.serving.assembly import Serving
    from videogen.serving.engine.messages import Synthetic
    from videogen.serving.server import serve as run
    from videogen.serving.telemetry import logs

    serving = Serving(
        model=model,
        host=host,
        http_port=http_port,
        grpc_port=grpc_port,
        ungated=ungated or synthetic,
        insecure=insecure,
        synthetic=Synthetic() if synthetic else None,
        grace_s=grace,
        log_prompts=log_prompts,
        repeats=repeats,
    )
    logs.configure(log_format)
    if device is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = only(device)  # the engine process, a child, finds that one, too
    asyncio.run(run(read_settings(), serving, typer.echo))
