"""A version's first requests, which it must answer well before it gets anybody's."""

import asyncio
import dataclasses

from videogen.errors import EngineUnavailable, GenerationFailed, UndecodableVideo
from videogen.evaluation import evaluation_prompts, questions
from videogen.media.mp4 import decode_mp4
from videogen.requests import AcceptedRequest
from videogen.serving.engine.messages import EngineJob, Finished
from videogen.serving.engine_process import EngineProcess
from videogen.serving.versions.served import ServedVersion

VIDEOS = 2
LEAST_SPREAD = 8
"""Of 255: a video whose brightest and darkest values are closer than that shows nothing."""


async def probe(engine: EngineProcess, version: ServedVersion, limit_s: float) -> None:
    """Has `engine` make a few videos of a version beside its other work, and looks at them.

    Raises TimeoutError if they are not there within `limit_s` seconds, EngineUnavailable if one fails or is not what
    was asked for.
    """
    asked = questions(
        evaluation_prompts(VIDEOS), version.spec, version.version_digest, version.label, version.vocabulary
    )
    try:
        async with asyncio.timeout(limit_s):
            for accepted in asked:
                await asyncio.to_thread(_look, accepted, await engine.make(_job(accepted, limit_s)))
    except (GenerationFailed, UndecodableVideo) as error:
        raise EngineUnavailable(f"{version.label}: a first video: {error}") from error


def _job(accepted: AcceptedRequest, limit_s: float) -> EngineJob:
    return dataclasses.replace(EngineJob.of(accepted, limit_s), tenant="probe", priority="interactive")


def _look(accepted: AcceptedRequest, finished: Finished) -> None:
    """Raises UndecodableVideo, or GenerationFailed. A synthetic device's videos have a size of their own."""
    request, frames = accepted.request, decode_mp4(finished.mp4)
    expected = (request.num_frames, request.height, request.width, 3)
    if frames.shape != expected and not finished.facts.get("synthetic"):
        raise GenerationFailed(f"got frames of {frames.shape}; expected {expected}")
    if int(frames.max()) - int(frames.min()) < LEAST_SPREAD:
        raise GenerationFailed("all of it is one colour")
