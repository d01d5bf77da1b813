"""Tells the ends of videos to the addresses that their requests named, signed as the Standard Webhooks specification.

What is still to be told stands in the store (`videogen.store.webhooks`): every replica looks at it, one of them calls.
A call that failed is repeated with growing pauses, a bounded number of times.
"""

import asyncio
import base64
import hashlib
import hmac
import json
import logging
import random
import time
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Protocol, TypeVar

import httpx

from videogen.errors import InvalidRequest, RecordNotFound, StoreError
from videogen.serving.jobs import Caller, VideoJob
from videogen.serving.outgoing import Outgoing
from videogen.store.webhooks import Turn, Webhook, Webhooks

T = TypeVar("T")
log = logging.getLogger(__name__)
PAUSES_S = (5.0, 30.0, 120.0, 600.0, 3_600.0, 4 * 3_600.0, 12 * 3_600.0)
"""After each failed call; the one after the last pause is the last."""
LOOK_S = 1.0
LONGEST_LOOK_S = 15.0
MOST_MISSED = 30
"""Looks for a request that is not there, `LOOK_S` apart, before it is taken for one that never will be."""
HOLD_S = 90.0
"""For how long the one who takes a call has it: longer than `outgoing.POST_S`."""
AT_ONCE = 32
GONE = 410
SecretOf = Callable[[str | None], str | None]
"""From the id of the key that asked (None without one) to the secret that its webhooks are signed with."""


class Jobs(Protocol):
    """Of the service's core: a job as it stands, RecordNotFound if there is none."""

    async def get(self, job_id: str, caller: Caller) -> VideoJob: ...


def sign(secret: str, message_id: str, timestamp: int, body: bytes) -> str:
    """The header `webhook-signature`. A secret that begins with `whsec_` is base64, any other is taken as text."""
    key = base64.b64decode(secret[6:]) if secret.startswith("whsec_") else secret.encode()
    signed = f"{message_id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()


def event(job: VideoJob) -> dict[str, object]:
    """OpenAI's event; the id is the same however often it is sent."""
    kind = "completed" if job.status == "completed" else "failed"
    at = job.completed_at or job.created_at
    data = {"id": job.id, "status": kind, "cancelled": job.state == "cancelled"}
    return {"id": f"evt_{job.id}", "object": "event", "created_at": int(at), "type": f"video.{kind}", "data": data}


class WebhookSender:
    """Calls webhooks that are due. `executor` runs the store's calls, asyncio's own if None."""

    def __init__(
        self,
        webhooks: Webhooks,
        service: Jobs,
        outgoing: Outgoing,
        secret_of: SecretOf,
        executor: Executor | None = None,
        pauses_s: tuple[float, ...] = PAUSES_S,
    ) -> None:
        self.webhooks, self.service, self.outgoing = webhooks, service, outgoing
        self.secret_of, self.executor, self.pauses_s = secret_of, executor, pauses_s

    async def check(self, url: str, caller: Caller) -> None:
        """Raises InvalidRequest if nothing may be sent to `url`, or could be signed."""
        if self.secret_of(caller.key_id) is None:
            raise InvalidRequest("webhook_url", url, "nothing: VIDEOGEN_WEBHOOK_SECRET, to sign with, is not set")
        await self.outgoing.check(url, "webhook_url")

    async def run(self) -> None:
        """Calls what is due, for ever; cancel it to stop. An unreachable store is asked again."""
        async with asyncio.TaskGroup() as group:
            calling: set[asyncio.Task[None]] = set()
            while True:
                for turn, webhook in await self._due(AT_ONCE - len(calling)):
                    task = group.create_task(self._call_one(turn, webhook))
                    calling.add(task)
                    task.add_done_callback(calling.discard)
                if len(calling) < AT_ONCE:
                    await asyncio.sleep(LOOK_S)
                else:
                    await asyncio.wait(calling, timeout=LOOK_S)

    async def _due(self, most: int) -> list[tuple[Turn, Webhook]]:
        try:
            return await self._in_store(lambda: self.webhooks.take(most, HOLD_S)) if most else []
        except StoreError as error:
            log.warning("webhooks wait: %s", error)
            return []

    async def _call_one(self, turn: Turn, webhook: Webhook) -> None:
        """Whatever is wrong with one, the others are called; it is due again when its hold has passed."""
        try:
            await self._tell(turn, webhook)
        except StoreError as error:
            log.warning("webhook of video %s waits: %s", webhook.id, error)
        except Exception:
            log.exception("webhook of video %s waits", webhook.id)

    async def _tell(self, turn: Turn, webhook: Webhook) -> None:
        try:
            job = await self.service.get(webhook.id, Caller(webhook.tenant, webhook.key_id, frozenset({"user"})))
        except RecordNotFound:
            await self._miss(turn)
            return
        if not job.has_ended:
            pause = min(LOOK_S * (1 + turn.waited / 4), LONGEST_LOOK_S)
            await self._in_store(lambda: self.webhooks.later(turn, pause, turn.attempts, turn.waited + 1))
            return
        error, is_final = await self._call(webhook, event(job))
        attempts = turn.attempts + 1
        if error is None:
            await self._in_store(lambda: self.webhooks.end(turn, "delivered", attempts))
        elif is_final or attempts > len(self.pauses_s):
            log.warning("webhook of video %s given up after %d calls: %s", webhook.id, attempts, error)
            await self._in_store(lambda: self.webhooks.end(turn, "dead", attempts, error))
        else:
            pause = self.pauses_s[attempts - 1] * random.uniform(0.9, 1.1)
            log.info("webhook of video %s failed (call %d), next in %.0f s: %s", webhook.id, attempts, pause, error)
            await self._in_store(lambda: self.webhooks.later(turn, pause, attempts, turn.waited))

    async def _miss(self, turn: Turn) -> None:
        """A webhook is recorded before its request, which may follow yet, or may never have been accepted."""
        if turn.waited < MOST_MISSED:
            await self._in_store(lambda: self.webhooks.later(turn, LOOK_S, turn.attempts, turn.waited + 1))
        else:
            error = "there is no such video: it was deleted, or never accepted"
            await self._in_store(lambda: self.webhooks.end(turn, "dead", turn.attempts, error))

    async def _call(self, webhook: Webhook, told: dict[str, object]) -> tuple[str | None, bool]:
        """What went wrong, None if nothing did; and whether another call is in vain."""
        secret = self.secret_of(webhook.key_id)
        if secret is None:
            return "there is no secret to sign with", False
        body, message_id, now = json.dumps(told, separators=(",", ":")).encode(), str(told["id"]), int(time.time())
        headers = {
            "content-type": "application/json",
            "user-agent": "videogen",
            "webhook-id": message_id,
            "webhook-timestamp": str(now),
            "webhook-signature": sign(secret, message_id, now, body),
        }
        try:
            status = await self.outgoing.post(webhook.url, body, headers)
        except (InvalidRequest, httpx.HTTPError, OSError) as error:
            return f"{type(error).__name__}: {error}"[:500], False
        return (None, False) if 200 <= status < 300 else (f"answered {status}", status == GONE)

    async def _in_store(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self.executor, call)
