"""How a video looks over HTTP: OpenAI's object, and our own keys beside theirs."""

from typing import Any

from videogen.serving.http.dialect import seconds_of
from videogen.serving.jobs import VideoJob


def video(job: VideoJob, warnings: tuple[str, ...] = ()) -> dict[str, Any]:
    """One job. `status` is one of OpenAI's four: what was cancelled is failed, and says so beside it."""
    request = job.request
    shown: dict[str, Any] = {
        "id": job.id,
        "object": "video",
        "model": job.label or job.model,
        "status": job.status,
        "progress": 100 if job.status == "completed" else min(int(100 * job.progress), 99),
        "created_at": int(job.created_at),
        "completed_at": _whole(job.completed_at),
        "expires_at": _whole(job.expires_at),
        "prompt": request.prompt,
        "size": f"{request.width}x{request.height}",
        "seconds": seconds_of(request.num_frames or 0, request.fps or 1),
        "remixed_from_video_id": job.remixed_from,
        "error": _error(job),
        "cancelled": job.state == "cancelled",
        "queue_position": job.queue_position,
        "eta_seconds": None if job.eta_seconds is None else round(job.eta_seconds, 3),
        "usage": _usage(job),
        "model_version": job.version_digest,
        "ungated": job.ungated,
        "changes": [one.model_dump(exclude_none=True) for one in job.changes],
        "parameters": request.model_dump(
            mode="json",
            include={"negative_prompt", "num_frames", "fps", "num_inference_steps", "guidance_scale", "seed"},
        ),
        "metadata": dict(request.metadata),
    }
    return shown | ({"warnings": list(warnings)} if warnings else {})


def _whole(seconds: float | None) -> int | None:
    return None if seconds is None else int(seconds)


def _error(job: VideoJob) -> dict[str, Any] | None:
    if job.status != "failed":
        return None
    if job.error is None:
        return {"code": job.state, "message": f"the request is {job.state}", "param": None}
    code = "cancelled" if job.state == "cancelled" else job.error.code
    return {"code": code, "message": job.error.message, "param": job.error.param}


def _usage(job: VideoJob) -> dict[str, Any] | None:
    used = job.usage
    if used is None:
        return None
    return {"gpu_seconds": round(used.gpu_seconds, 6), "cost_usd": used.cost_usd, "cache": used.cache}
