"""Clients' sessions: defaults for their requests and the state of an editor, kept in the store."""

from collections.abc import Mapping
from types import EllipsisType

from videogen.serving.jobs import Caller
from videogen.serving.store_calls import Call
from videogen.store.records import Json
from videogen.store.sessions import Session
from videogen.store.store import Store


class Sessions:
    """What names a session raises RecordNotFound for one that is not there or not the caller's tenant's."""

    def __init__(self, store: Store, call: Call) -> None:
        self.store, self.call = store, call

    async def create(self, caller: Caller, defaults: Mapping[str, Json]) -> Session:
        """Raises InvalidRequest for no JSON, or too much of it."""
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
        """Raises StoreConflict if the session is not at `expected_revision`, InvalidRequest."""
        sessions = self.store.sessions
        return await self.call(
            lambda: sessions.update(caller.tenant, session_id, expected_revision, defaults, edit_state)
        )

    async def delete(self, session_id: str, caller: Caller) -> None:
        await self.call(lambda: self.store.sessions.end(caller.tenant, session_id))
