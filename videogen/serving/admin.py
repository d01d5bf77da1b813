"""What those who run a replica ask of it: how it stands, another version, an end, what their runs have leased."""

import contextlib
import dataclasses
import json
from collections.abc import AsyncGenerator, Mapping, Sequence

from videogen.client.results import Claim, News
from videogen.errors import Draining, InvalidRequest, StoreUnavailable
from videogen.serving.making.lending import Lending
from videogen.serving.making.maker import Maker
from videogen.serving.readiness import Readiness
from videogen.serving.store_calls import Call
from videogen.serving.telemetry.overview import Overview
from videogen.serving.versions.swapping import Swapper
from videogen.store.records import Json


class Admin:
    """One replica's; `swapper` is None where it serves one version for ever.

    What runs have leased is made however many callers ask.
    """

    def __init__(
        self, maker: Maker, call: Call, readiness: Readiness, swapper: Swapper | None, overview: Overview
    ) -> None:
        self.maker, self.call, self.readiness, self.swapper, self.overview = maker, call, readiness, swapper, overview
        self.lending = Lending(maker.store, maker.call, maker.versions, maker.work)

    async def stats(self) -> dict[str, Json]:
        """How the service stands: what waits, what is made, what is served."""
        maker, readiness, stats = self.maker, self.readiness, self.maker.stats
        told: dict[str, Json] = {
            **self.overview.as_plain(),
            "ready": readiness.ready,
            "reasons": list(readiness.reasons),
            "warnings": list(readiness.warnings),
            "holder": maker.holder,
            "in_hand": len(maker.work.in_hand),
            "work_s": 0.0 if stats is None else round(stats.work_s, 3),
            "seconds_per_video": round(maker.speed.seconds_each, 4),
            "engine_restarts": maker.reviver.restarts,
            "versions": [
                {
                    "label": v.label,
                    "digest": v.version_digest,
                    "ungated": v.ungated,
                    "admitted": v is maker.versions.current,
                }
                for v in maker.versions.loaded.values()
            ],
        }
        if stats is not None:
            told["process"] = json.loads(json.dumps(dataclasses.asdict(stats), default=str))
        with contextlib.suppress(StoreUnavailable):
            told["waiting"] = await self.call(lambda: len(maker.store.waiting("interactive", limit=1000)))
        return told

    async def drain(self) -> None:
        """Takes no more requests; what was accepted is finished here or by another replica."""
        self.readiness.draining = True

    async def swap(self, label: str) -> Mapping[str, Json]:
        """Serves the champion or the version before it. Raises InvalidRequest, EngineError."""
        return await self._following().swap(label)

    async def rollback(self) -> Mapping[str, Json]:
        """Moves the champion pointer back, and follows it. Raises RecordNotFound."""
        return await self._following().rollback()

    async def reload(self) -> Mapping[str, Json]:
        """Looks at the champion pointer now. Raises EngineError if its version cannot be served."""
        return await self._following().reload()

    def _following(self) -> Swapper:
        if self.swapper is None:
            raise InvalidRequest("model", "a swap", "nothing: this service was started with one version, --model")
        return self.swapper

    def execute(self, claims: Sequence[Claim]) -> AsyncGenerator[News]:
        """Makes what a run has leased. Raises Draining."""
        if self.readiness.draining:
            raise Draining("the service is ending and takes no more work; another replica does")
        return self.lending.borrow(claims)
