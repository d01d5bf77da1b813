"""Clients' sessions: defaults for their requests and the state of an editor, kept in the store."""

import logging
from collections.abc import Awaitable, Mapping
from types import EllipsisType
from typing import Any

from videogen.errors import InvalidRequest, RecordNotFound, SessionNotFound
from videogen.requests import Request
from videogen.serving.jobs import Caller, VideoJob
from videogen.serving.store_calls import Call
from videogen.store.records import Json
from videogen.store.sessions import Session
from videogen.store.store import Store

logger = logging.getLogger(__name__)
EACH_REQUESTS_OWN = frozenset({"schema_version", "prompt", "tenant", "lane"})
DEFAULTS = tuple(name for name in Request.model_fields if name not in EACH_REQUESTS_OWN)
"""A request's fields that a session may fill."""


class Sessions:
    """What names a session raises RecordNotFound for one that is not there or not the caller's tenant's."""

    def __init__(self, store: Store, call: Call) -> None:
        self.store, self.call = store, call

    async def create(self, caller: Caller, defaults: Mapping[str, Json]) -> Session:
        """Raises InvalidRequest for no JSON, too much of it, or a name that is not among `DEFAULTS`."""
        _check_names(defaults)
        return await self.call(lambda: self.store.sessions.create(caller.tenant, defaults))

    async def get(self, session_id: str, caller: Caller) -> Session:
        return await self.call(lambda: self.store.sessions.get(caller.tenant, session_id))

    async def update(
        self,
        session_id: str,
        caller: Caller,
        expected_revision: int | None = None,
        defaults: Mapping[str, Json] | None = None,
        edit_state: Json | EllipsisType = ...,
    ) -> Session:
        """Raises StoreConflict if the session is not at `expected_revision`, InvalidRequest as `create`.

        What an older session holds beside `DEFAULTS` can be taken away.
        """
        _check_names({name: value for name, value in (defaults or {}).items() if value is not None})
        sessions = self.store.sessions
        return await self.call(
            lambda: sessions.update(caller.tenant, session_id, expected_revision, defaults, edit_state)
        )

    async def delete(self, session_id: str, caller: Caller) -> None:
        await self.call(lambda: self.store.sessions.end(caller.tenant, session_id))

    async def filled(self, fields: Mapping[str, Any], session_id: str, caller: Caller) -> dict[str, Any]:
        """A request's fields, what it leaves out taken from the session, which thereby lives on.

        Raises SessionNotFound.
        """
        try:
            session = await self.get(session_id, caller)
        except RecordNotFound as error:
            raise SessionNotFound(f"session: {error}") from error
        left_out = (name for name in DEFAULTS if fields.get(name) is None and name in session.defaults)
        return {**fields, **{name: session.defaults[name] for name in left_out}}

    async def remembered(self, accepting: Awaitable[VideoJob], session_id: str, caller: Caller) -> VideoJob:
        """The job once it is accepted and, unless that cannot be written, listed by its session."""
        job = await accepting
        try:
            await self.call(lambda: self.store.sessions.add_video(caller.tenant, session_id, job.id))
        except Exception:
            logger.warning("%s is accepted, but its session does not list it", job.id, exc_info=True)
        return job


def _check_names(defaults: Mapping[str, Json]) -> None:
    for name in defaults:
        if name not in DEFAULTS:
            raise InvalidRequest("defaults", name, "a request's fields but its prompt: " + ", ".join(DEFAULTS))
