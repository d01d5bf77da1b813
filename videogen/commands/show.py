"""`videogen show`: one request, its video and where that came from."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from videogen.commands.layout import lines
from videogen.commands.outputs import require_mp4
from videogen.errors import InvalidRequest, RecordExpired, RecordNotFound
from videogen.opening import open_store
from videogen.settings import Settings, read_settings

if TYPE_CHECKING:
    from videogen.store.records import RequestRecord, VideoRecord
    from videogen.store.store import Store

REPEATED = {"request_id": "request", "label": "model", "batch": "batch", "seed": "seed", "fingerprint": "fingerprint"}
"""What a video's provenance says again of the request that it was made for -> where that stands."""


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
    require_mp4(output)
    settings = read_settings()
    store = open_store(settings)
    record = find(store, request_id)
    facts = facts_of(record)
    if record.state == "done" and record.video:
        path = output or kept_at(settings, record)
        video = save(store, record.video, record.generation, path)
        facts |= {"video": str(path), "bytes": video.size, "sha256": video.digest, "provenance": dict(video.provenance)}
    if as_json:
        typer.echo(json.dumps(facts))
        return
    for line in lines(for_people(facts)):
        typer.echo(line)


def kept_at(settings: Settings, record: "RequestRecord") -> Path:
    """Where a request's video goes when nobody says where."""
    return settings.home / "videos" / f"{record.id}.mp4"


def find(store: "Store", request_id: str) -> "RequestRecord":
    """The request of that id. Raises InvalidRequest if there is none."""
    try:
        return store.request(request_id)
    except RecordExpired:
        raise
    except RecordNotFound as error:
        allowed = "the id of a request, as videogen submit and videogen status print it"
        raise InvalidRequest("request", request_id, allowed) from error


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


def for_people(facts: dict[str, Any]) -> dict[str, Any]:
    """The facts without what stands twice: the video's provenance repeats its request."""
    origin = facts.get("provenance", {})
    new = {
        key: value for key, value in origin.items() if key != "request" and value != facts.get(REPEATED.get(key, ""))
    }
    return facts | {"provenance": new}
