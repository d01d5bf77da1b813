"""`videogen generate`: one video, now, in this process."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from videogen.commands.outputs import require_mp4, slug
from videogen.errors import ArtifactCorrupt, ArtifactMissing, ArtifactRefused, InvalidRequest
from videogen.opening import open_artifacts, open_store, require
from videogen.settings import Settings, read_settings

if TYPE_CHECKING:
    from videogen.models.family import VideoModel
    from videogen.requests import AcceptedRequest


def generate(
    prompt: Annotated[str, typer.Argument(help="What the video shows; quote it.")],
    model: Annotated[
        str, typer.Option(help="A model with a champion, or a folder in diffusers' form.")
    ] = "videogen-tiny@champion",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The MP4. [default: the prompt's words]")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="The same seed gives the same video. [default: drawn]")] = None,
    steps: Annotated[int | None, typer.Option(help="Denoising steps. [default: the model's]")] = None,
    guidance_scale: Annotated[
        float | None, typer.Option(help="How hard to follow the prompt. [default: the model's]")
    ] = None,
    negative_prompt: Annotated[str, typer.Option(help="What the video shall not show.")] = "",
) -> None:
    """Make one video now, without queue or Dagster. A champion runs on its engine, a folder on PyTorch.

    Examples:

    `videogen generate "a large red ring moving left on a dotted background" --seed 7 -o ring.mp4`

    `videogen generate "a tiny golden star circling over a dark background" --model models/videogen-tiny/2`
    """
    fields: dict[str, Any] = {"seed": seed, "num_inference_steps": steps, "guidance_scale": guidance_scale}
    fields |= {"model": model, "prompt": prompt, "negative_prompt": negative_prompt}
    require_mp4(output)
    settings = read_settings()
    start = time.monotonic()
    if "/" in model and not Path(model).is_dir():
        raise InvalidRequest("model", model, "a folder that exists, or a model's name without a slash")
    accepted, video_model = _open_folder(fields, settings) if Path(model).is_dir() else _open_champion(fields, settings)
    frames = _denoise(accepted, video_model)
    path = output or Path(f"{slug(accepted.request.prompt)}.mp4")
    path.parent.mkdir(parents=True, exist_ok=True)
    from videogen.media.mp4 import encode_mp4

    path.write_bytes(encode_mp4(frames, accepted.request.fps or video_model.spec.fps))
    engine = video_model.engine
    typer.echo(
        f"{path}  {accepted.label}  seed {accepted.request.seed}  {engine.target} {engine.precision}"
        f"  {time.monotonic() - start:.1f} s"
    )


def _open_folder(fields: dict[str, Any], settings: Settings) -> tuple["AcceptedRequest", "VideoModel"]:
    require("diffusers", "export")
    from videogen.engines.pytorch import TorchEngine
    from videogen.manifest import build_manifest
    from videogen.models.loading import load_tokenizer
    from videogen.models.spec import read_spec
    from videogen.models.wan import WanModel
    from videogen.requests import accept, parse_request

    request, folder = parse_request(fields), Path(fields["model"])
    try:
        spec, vocabulary = read_spec(folder), getattr(load_tokenizer(folder), "vocabulary", None)
        label, digest = f"{spec.name} in {folder}", build_manifest(folder).digest
        return accept(request, spec, digest, vocabulary, label=label), WanModel(
            folder, TorchEngine(folder, settings.threads)
        )
    except (ArtifactMissing, ArtifactCorrupt, ArtifactRefused) as error:
        raise InvalidRequest("model", fields["model"], f"a folder in diffusers' form: {error}") from error


def _open_champion(fields: dict[str, Any], settings: Settings) -> tuple["AcceptedRequest", "VideoModel"]:
    from videogen.devices import find_devices
    from videogen.engines.cache import load_engine
    from videogen.models.wan import WanModel
    from videogen.requests import accept, parse_request
    from videogen.resolve import resolve_model, runnable_target

    request, artifacts = parse_request(fields), open_artifacts(settings)
    resolved = resolve_model(request.model, open_store(settings), artifacts)
    target = runnable_target(resolved.targets, find_devices()[0], resolved.label)
    accepted = accept(request, resolved.spec, resolved.version_digest, resolved.vocabulary, label=resolved.label)
    engine = load_engine(artifacts, resolved.targets[target].engine_key, settings.threads)
    return accepted, WanModel(resolved.folder, engine)


def _denoise(accepted: "AcceptedRequest", video_model: "VideoModel") -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        generation = video_model.start([accepted])[0]
        task = progress.add_task("denoising", total=generation.steps)
        while not generation.is_done:
            video_model.step([generation])
            progress.update(task, completed=generation.step_index)
        progress.update(task, description="decoding")
        return video_model.finish([generation])[0]
