"""`videogen show`: one request, its video and where that came from."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from videogen.opening import open_store
from videogen.settings import read_settings

if TYPE_CHECKING:
    from videogen.store.records import RequestRecord, VideoRecord
    from videogen.store.store import Store


def show(
    request_id: Annotated[str, typer.Argument(metavar="REQUEST_ID", help="What videogen submit printed.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Where the MP4 goes. [default: var/videos]")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Show a request; once it is done, save its video and say where it came from.

    Example: `videogen show 019ab7c2-… -o ring.mp4`
    """
    settings = read_settings()
    store = open_store(settings)
    record = store.request(request_id)
    facts = facts_of(record)
    if record.state == "done" and record.video:
        path = output or settings.home / "videos" / f"{record.id}.mp4"
        video = save(store, record.video, record.generation, path)
        facts |= {"video": str(path), "bytes": video.size, "sha256": video.digest, "provenance": dict(video.provenance)}
    if as_json:
        typer.echo(json.dumps(facts))
        return
    for name, value in facts.items():
        inner = value if isinstance(value, dict) else None
        typer.echo(f"{name:<16}{'' if inner is not None else value}")
        for key, part in (inner or {}).items():
            typer.echo(f"  {key}: {part}")


def save(store: "Store", digest: str, generation: str, path: Path) -> "VideoRecord":
    """Writes a published video, checked against its digest, to `path`."""
    content = store.read_video(digest)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return store.video(digest, generation)


def facts_of(record: "RequestRecord") -> dict[str, Any]:
    """What there is to know about a request, whatever its state."""
    facts: dict[str, Any] = {"request": record.id, "state": record.state, "model": record.label}
    if record.state == "running":
        facts["progress"] = f"{record.progress:.0%}"
    if record.error:
        facts["error"] = record.error
    if record.batch:
        facts["batch"] = record.batch
    if record.accepted:
        request = record.accepted.request
        facts |= {"prompt": request.prompt, "seed": request.seed, "num_inference_steps": request.num_inference_steps}
        facts |= {"guidance_scale": request.guidance_scale, "tenant": request.tenant}
        facts |= {"size": f"{request.width}x{request.height}, {request.num_frames} frames at {request.fps}/s"}
        facts |= {"fingerprint": record.accepted.fingerprint}
    return facts
