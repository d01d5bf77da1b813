"""A real engine process for a test, and what it told."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from videogen.models.spec import ModelSpec
from videogen.requests import AcceptedRequest, Request, accept
from videogen.serving.engine_process import (
    EngineConfig,
    EngineEvent,
    EngineJob,
    EngineProcess,
    Failed,
    Finished,
    Synthetic,
    VersionToLoad,
)

DIGEST = "d" * 64
SPEC = ModelSpec("videogen-tiny", num_inference_steps=4, guidance_scale=1.0)
QUICK = EngineConfig(synthetic=Synthetic(fixed_s=0.004, each_s=0.0005))
SLOW = EngineConfig(synthetic=Synthetic(fixed_s=0.2, each_s=0.0))
SYNTHETIC = VersionToLoad(DIGEST, "synthetic@1", "")


def request(seed: int = 0, **fields: Any) -> AcceptedRequest:
    return accept(Request(prompt="a red ball moving", seed=seed, **fields), SPEC, DIGEST)


def job(accepted: AcceptedRequest, **fields: Any) -> EngineJob:
    return EngineJob(accepted.id, accepted.version_digest, accepted.model_dump(mode="json"), **fields)


class Told:
    """All events, in their order."""

    def __init__(self) -> None:
        self.events: list[EngineEvent] = []

    def of(self, kind: type) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def ends(self) -> dict[str, Any]:
        return {event.id: event for event in self.events if isinstance(event, Finished | Failed)}

    async def until(self, condition: Callable[[], Any], timeout_s: float = 60.0) -> None:
        end = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < end, f"not in {timeout_s:g} s; told last: {self.events[-3:]}"
            await asyncio.sleep(0.005)


@asynccontextmanager
async def engine(config: EngineConfig, *versions: VersionToLoad) -> AsyncIterator[tuple[EngineProcess, Told]]:
    told = Told()
    process = EngineProcess(config, told.events.append)
    await process.start()
    try:
        for version in versions:
            await process.load(version)
        yield process, told
    finally:
        await process.stop(0)
