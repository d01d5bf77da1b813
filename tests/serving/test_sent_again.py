"""Requests that come once more with their idempotency key, when they could not come for the first time any more."""

import dataclasses

import pytest

from tests.serving.in_process import CALLER, run, served
from videogen.errors import InvalidRequest, SessionNotFound, StoreUnavailable
from videogen.serving.engine.messages import Synthetic
from videogen.store.backends.memory import MemoryRecordStore
from videogen.store.store import Store

RED = {"prompt": "a red ring"}


def test_a_version_that_would_not_accept_it_today_does_not_refuse_what_was_accepted():
    async def test() -> None:
        async with served(Store(MemoryRecordStore()), Synthetic()) as service:
            first = await service.submit(RED, CALLER, "key")
            current = service.versions.current
            assert current is not None
            service.versions.admit(dataclasses.replace(current, vocabulary=("blue",)))
            assert (await service.submit(RED, CALLER, "key")).id == first.id
            for fields, key in ((RED, "new"), (RED, None), ({"prompt": "a red disc"}, "key")):
                with pytest.raises(InvalidRequest, match="prompt"):
                    await service.submit(fields, CALLER, key)

    run(test)


def test_a_key_without_a_request_brings_no_ended_session_back(monkeypatch):
    async def test() -> None:
        async with served(store := Store(MemoryRecordStore()), Synthetic()) as service:

            def fail(webhook):
                raise StoreUnavailable("away")

            session = await service.sessions.create(CALLER, {})
            monkeypatch.setattr(store.webhooks, "add", fail)
            with pytest.raises(StoreUnavailable):
                await service.submit(RED, CALLER, "key", "https://example.com/", session.id)
            await service.sessions.delete(session.id, CALLER)
            with pytest.raises(SessionNotFound):
                await service.submit(RED, CALLER, "key", "https://example.com/", session.id)

    run(test)
