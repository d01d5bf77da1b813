"""Who may call, against a real store in a file, with what other processes do to it in between."""

import asyncio

import pytest

from videogen.errors import Forbidden, InvalidRequest, Unauthenticated
from videogen.serving.access import ANYBODY, KNOWN_FOR_S, Access, check_bind, is_loopback, require
from videogen.store.backends.catalog import open_records
from videogen.store.backends.memory import MemoryRecordStore
from videogen.store.store import Store

pytestmark = pytest.mark.filterwarnings("error")


class Counting(MemoryRecordStore):
    reads = 0

    def read_many(self, kind, keys, aged=False):
        self.reads += 1
        return super().read_many(kind, keys, aged)


class Hands:
    """A clock that a test moves."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def url(tmp_path):
    return f"embedded:{tmp_path / 'store'}"


@pytest.fixture
def store(url):
    with Store.open(url) as store:
        yield store


def bearer(text: str) -> str:
    return f"Bearer {text}"


def test_without_any_key_loopback_is_everybody_and_others_are_nobody(store):
    async def scenario():
        access = Access(store.api_keys)
        assert await access.authenticate(None, True) == ANYBODY
        assert (ANYBODY.tenant, ANYBODY.key_id, ANYBODY.scopes) == ("default", None, {"user", "admin"})
        with pytest.raises(Unauthenticated, match="videogen keys create"):
            await access.authenticate(None, False)
        assert await Access(store.api_keys, insecure=True).authenticate(None, False) == ANYBODY

    asyncio.run(scenario())


def test_once_a_key_was_made_everybody_needs_one(store, url):
    async def scenario():
        clock = Hands()
        access = Access(store.api_keys, insecure=True, clock=clock)
        assert await access.authenticate(None, True) == ANYBODY
        with Store.open(url) as elsewhere:
            text, key = elsewhere.api_keys.create("acme")
        clock.now += KNOWN_FOR_S
        for loopback in (True, False):
            with pytest.raises(Unauthenticated):
                await access.authenticate(None, loopback)
        caller = await access.authenticate(bearer(text), False)
        assert (caller.tenant, caller.key_id, caller.scopes) == ("acme", key.id, {"user"})
        require(caller, "user")
        with pytest.raises(Forbidden, match="scope admin"):
            require(caller, "admin")
        store.api_keys.revoke(key.id)  # the last one: the door stays shut
        clock.now += KNOWN_FOR_S
        with pytest.raises(Unauthenticated):
            await access.authenticate(None, True)

    asyncio.run(scenario())


def test_a_revoked_key_is_refused_within_the_bound_and_never_comes_back(store, url):
    async def scenario():
        clock = Hands()
        access = Access(store.api_keys, clock=clock)
        text, key = store.api_keys.create("acme")
        await access.authenticate(bearer(text), True)
        with Store.open(url) as elsewhere:
            elsewhere.api_keys.revoke(key.id)
        clock.now += KNOWN_FOR_S
        with pytest.raises(Unauthenticated, match="unknown or revoked"):
            await access.authenticate(bearer(text), True)

    asyncio.run(scenario())


def test_wrong_and_malformed_keys_are_refused_alike(store):
    async def scenario():
        access = Access(store.api_keys)
        text, _ = store.api_keys.create("acme", ["admin"])
        other = text[:-1] + ("A" if text[-1] != "A" else "B")
        unknown = f"vg_{'0' * 16}_{text[-43:]}"
        for header in (bearer(other), bearer(unknown), "Bearer", text, f"Basic {text}", bearer("sk-1"), "", "Bearer é"):
            with pytest.raises(Unauthenticated):
                await access.authenticate(header, True)
        assert (await access.authenticate(f"bearer  {text} ", False)).tenant == "acme"

    asyncio.run(scenario())


def test_who_sent_no_key_and_who_sent_what_is_none_are_told_so_and_it_is_not_repeated(store):
    async def scenario():
        access = Access(store.api_keys)
        store.api_keys.create("acme")
        for header, told in ((None, "no API key: expected"), (bearer("nope"), "is not an API key of this service")):
            with pytest.raises(Unauthenticated, match=told) as refused:
                await access.authenticate(header, True)
            assert "Bearer vg_" in str(refused.value) and "nope" not in str(refused.value)

    asyncio.run(scenario())


def test_many_calls_at_once_read_a_key_once():
    records = Counting()
    with Store(records) as store:
        text, _ = store.api_keys.create("acme")

        async def scenario():
            access, before = Access(store.api_keys), records.reads
            callers = await asyncio.gather(*(access.authenticate(bearer(text), False) for _ in range(100)))
            assert len(set(callers)) == 1 and records.reads == before + 1

        asyncio.run(scenario())


def test_a_caller_that_gives_up_takes_no_other_with_it(store):
    async def scenario():
        access = Access(store.api_keys)
        text, _ = store.api_keys.create("acme")
        first = asyncio.create_task(access.authenticate(bearer(text), False))
        second = asyncio.create_task(access.authenticate(bearer(text), False))
        await asyncio.sleep(0)
        first.cancel()
        assert (await second).tenant == "acme"

    asyncio.run(scenario())


def test_a_store_that_does_not_answer_is_asked_again_by_the_next_call(url):
    async def scenario():
        with Store.open(url) as store:
            text, _ = store.api_keys.create("acme")
        records = open_records(url)
        real, records.read_many = records.read_many, lambda *_, **__: (_ for _ in ()).throw(OSError("away"))
        access = Access(Store(records).api_keys)
        with pytest.raises(OSError, match="away"):
            await access.authenticate(bearer(text), False)
        records.read_many = real
        assert (await access.authenticate(bearer(text), False)).tenant == "acme"
        records.close()

    asyncio.run(scenario())


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "[::1]", "localhost", "::ffff:127.0.0.1"])
def test_loopback_may_be_open(host):
    assert is_loopback(host)
    check_bind(host, has_keys=False, insecure=False)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "example.com", "127.0.0.1.example.com", "", "[::]"])
def test_a_public_address_needs_keys_or_a_word(host):
    with pytest.raises(InvalidRequest, match="--insecure") as caught:
        check_bind(host, has_keys=False, insecure=False)
    assert caught.value.field == "host"
    check_bind(host, has_keys=True, insecure=False)
    check_bind(host, has_keys=False, insecure=True)
