"""What came of a claim goes into the store, and to whoever is to hear of it."""

import contextlib
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from videogen.client.results import Executed, ExecuteFailed
from videogen.errors import StoreUnavailable, VideogenError
from videogen.outlasting import outlasting
from videogen.serving.engine.messages import Finished
from videogen.serving.gathering import Gathering, alone
from videogen.serving.making.in_hand import InHand
from videogen.serving.store_calls import Call
from videogen.serving.telemetry.observing import Observer, Outcome
from videogen.serving.telemetry.reporting import ended
from videogen.store.each import attempted, given
from videogen.store.records import Claim, Json, Made, Published, RequestState
from videogen.store.store import Store

logger = logging.getLogger(__name__)
BLOCK_BYTES = 8 * 1024 * 1024
"""Of videos in one block of writes, or one video: nobody else writes meanwhile."""


class Results:
    """One replica's; `provenance` is what all its videos have in common. The store may be away for `outlast_s`."""

    def __init__(
        self,
        store: Store,
        call: Call,
        observer: Observer,
        holder: str,
        provenance: Mapping[str, Json],
        outlast_s: float,
    ) -> None:
        self.store, self.call, self.observer = store, call, observer
        self.holder, self.provenance, self.outlast_s = holder, provenance, outlast_s
        ask = self._publish_all
        self._into_store = Gathering(call, ask) if store.records.has_blocks else alone(call, ask)

    async def publish(self, held: InHand, made: Finished) -> Published | None:
        """Puts a video into the store and tells of it; or says why it came to nothing."""
        claim, finished_at = held.claim, time.monotonic()
        try:
            published = await self._into_store(Made(claim, made.mp4, self._facts(held, made.facts)))
        except VideogenError as error:
            logger.warning("a video of request %s came to nothing: %s", claim.request.id, error)
            if held.lent is not None:
                held.lent(ExecuteFailed(claim.generation, "not_published", str(error), True))
            return None
        if await self._state(claim, published) == "done":  # of any other end, who brought it about has told
            self._tell_end(held, "completed", made.facts, finished_at)
        if held.lent is not None:
            held.lent(Executed(claim.generation, published.video.digest))
        return published

    async def _state(self, claim: Claim, published: Published) -> RequestState | None:
        """Of the request that a video was made for, which may have ended before; None if it is not to be had."""
        for one in published.ended:
            if one.id == claim.request.id:
                return one.state
        with contextlib.suppress(VideogenError):
            return (await self.call(lambda: self.store.request(claim.request.id))).state
        return None

    def _publish_all(self, made: Sequence[Made]) -> Sequence[Published | Exception]:
        """In blocks. Where one fails, one by one: what is too much for the store in one of them is not for the rest."""
        until, told = time.monotonic() + self.outlast_s, list[Published | Exception]()

        def publish(one: Made) -> Published:
            left_s = max(0.0, until - time.monotonic())
            return given(outlasting(lambda: self.store.publish_all([one]), left_s)[0])

        for block in _blocks(made):
            try:
                told += self.store.publish_all(block)
            except StoreUnavailable:
                told += [attempted(partial(publish, one)) for one in block]
        return told

    async def fail(self, held: InHand, error: str, retry: bool, code: str = "generation_failed") -> None:
        """Has a claim tried again, with `retry` and as far as there are attempts left, or ends it."""
        claim = held.claim
        if held.lent is not None:
            held.lent(ExecuteFailed(claim.generation, code, error, retry))
            return
        try:
            await self.call(lambda: outlasting(lambda: self.store.fail(claim, error, retry), self.outlast_s))
        except VideogenError as lost:
            logger.warning("a failure of request %s could not be recorded: %s", claim.request.id, lost)
        if not retry or claim.attempt >= self.store.limits.max_attempts:
            self._tell_end(held, "failed", {}, error=error)

    def _facts(self, held: InHand, made: Mapping[str, Any]) -> dict[str, Json]:
        claim = held.claim
        run: dict[str, Json] = {} if held.lent is None else {"dagster_run": claim.holder, "service": self.holder}
        return {**self.provenance, **made, **claim.facts(), "holder": claim.holder, **run}

    def _tell_end(
        self,
        held: InHand,
        outcome: Outcome,
        facts: Mapping[str, Json],
        finished_at: float | None = None,
        error: str | None = None,
    ) -> None:
        unix = time.time() - time.monotonic()
        self.observer.ended(
            ended(
                held.claim.request,
                outcome,
                time.time(),
                taken_at=held.taken_at + unix,
                first_step_at=None if held.first_step_at is None else held.first_step_at + unix,
                finished_at=None if finished_at is None else finished_at + unix,
                facts=facts,
                error=error,
                run_id=None if held.lent is None else held.claim.holder,
            )
        )


def _blocks(made: Sequence[Made]) -> Iterator[list[Made]]:
    block, size = list[Made](), 0
    for one in made:
        if block and size + len(one.mp4) > BLOCK_BYTES:
            yield block
            block, size = [], 0
        block.append(one)
        size += len(one.mp4)
    if block:
        yield block
