"""Limits of callers, from the buckets of a real store that two replicas share."""

import asyncio

import pytest

from videogen.errors import InvalidRequest, InvalidSetting, RateLimited
from videogen.serving.access import ANYBODY, Access
from videogen.serving.jobs import Caller
from videogen.serving.limits import Limits, duration
from videogen.settings import ServingLimits, read_settings
from videogen.store.backends.memory import MemoryRecordStore
from videogen.store.rate_limits import RateLimit
from videogen.store.store import Store

THREE_AND_NO_MORE = RateLimit.per_minute(0.01, burst=3)


@pytest.fixture
def store(tmp_path):
    with Store.open(f"embedded:{tmp_path / 'store'}") as store:
        yield store


def limits_of(store: Store, **settings) -> Limits:
    return Limits(store.rate_limits, Access(store.api_keys), ServingLimits(**settings))


def made(store: Store, tenant: str, limit: RateLimit | None = None, reads: RateLimit | None = None) -> Caller:
    _, key = store.api_keys.create(tenant, limit=limit, reads=reads)
    return Caller(tenant, key.id, key.scopes)


def test_a_key_has_its_own_limit_on_all_replicas_together(store, tmp_path):
    async def scenario():
        caller, other = made(store, "acme", THREE_AND_NO_MORE), made(store, "acme")
        with Store.open(f"embedded:{tmp_path / 'store'}") as elsewhere:
            replicas = [limits_of(store), limits_of(elsewhere), limits_of(store)]
            left = [(await one.take(caller)).headers() for one in replicas]
            assert [one["x-ratelimit-remaining-requests"] for one in left] == ["2", "1", "0"]
            assert {one["x-ratelimit-limit-requests"] for one in left} == {"3"}
            assert left[0]["x-ratelimit-reset-requests"] == "1h40m0s"
            with pytest.raises(RateLimited, match="try again in 1h") as caught:
                await replicas[1].take(caller)
        headers = caught.value.headers
        assert headers["x-ratelimit-remaining-requests"] == "0" and int(headers["retry-after"]) > 5900
        assert int(headers["retry-after"]) >= caught.value.retry_after_s
        assert (await limits_of(store).take(other)).headers() == {}

    asyncio.run(scenario())


def test_the_settings_limit_every_key_and_every_tenant(store):
    async def scenario():
        limits = limits_of(store, key=RateLimit.per_minute(0.01, 2), tenant=THREE_AND_NO_MORE)
        first, second, stranger = made(store, "acme"), made(store, "acme"), made(store, "beta")
        for _ in range(2):
            await limits.take(first)
        with pytest.raises(RateLimited, match=f"key {first.key_id}"):
            await limits.take(first)
        assert (await limits.take(second)).remaining == pytest.approx(0, abs=0.1)
        with pytest.raises(RateLimited, match="tenant acme"):
            await limits.take(second)
        await limits.take(stranger)

    asyncio.run(scenario())


def test_looks_have_buckets_of_their_own_by_key_and_by_tenant_on_each_replica(store):
    async def scenario():
        limits = limits_of(store, key_reads=RateLimit.per_minute(0.01, 2), tenant_reads=THREE_AND_NO_MORE)
        first, second, stranger = made(store, "acme"), made(store, "acme"), made(store, "beta")
        left = [(await limits.read(first)).headers() for _ in range(2)]
        assert [one["x-ratelimit-remaining-requests"] for one in left] == ["1", "0"]
        with pytest.raises(RateLimited, match=f"key {first.key_id} may look") as caught:
            await limits.read(first)
        assert int(caught.value.headers["retry-after"]) >= caught.value.retry_after_s > 60
        await limits.read(second)
        with pytest.raises(RateLimited, match="tenant acme may look"):
            await limits.read(second)
        await limits.read(stranger)
        await limits.read(first, "cancel")  # who may look no more may still end what is made
        await limits.read(first, "cancel")
        with pytest.raises(RateLimited, match=f"key {first.key_id} may cancel"):
            await limits.read(first, "cancel")
        await limits_of(store, tenant_reads=THREE_AND_NO_MORE).read(first)
        assert (await limits.take(first)).headers() == {}, "what is asked for is counted elsewhere"

    asyncio.run(scenario())


def test_a_keys_own_limit_of_looks_goes_before_the_settings(store):
    async def scenario():
        limits = limits_of(store, key_reads=RateLimit.per_minute(0.01, 1))
        few, more = made(store, "acme"), made(store, "acme", reads=THREE_AND_NO_MORE)
        for caller, most in ((few, 1), (more, 3)):
            for _ in range(most):
                assert (await limits.read(caller)).headers()["x-ratelimit-limit-requests"] == f"{most}"
            with pytest.raises(RateLimited, match=f"key {caller.key_id} may look .*, {most} at once"):
                await limits.read(caller)
        assert (await limits.read(ANYBODY)).headers()["x-ratelimit-limit-requests"] == "3000"

    asyncio.run(scenario())


def test_without_limits_the_store_is_not_asked():
    class Counted(MemoryRecordStore):
        reads = 0

        def read_many(self, kind, keys, aged=False):
            self.reads += 1
            return super().read_many(kind, keys, aged)

    with Store(records := Counted()) as store:
        assert asyncio.run(limits_of(store).take(ANYBODY)).headers() == {} and records.reads == 0
        asyncio.run(limits_of(store, tenant=THREE_AND_NO_MORE).take(ANYBODY))
        assert records.reads == 1


def test_a_tenants_streams_are_counted_and_given_back(store):
    limits = limits_of(store, tenant_streams=2)
    with limits.stream(ANYBODY), limits.stream(ANYBODY):
        with pytest.raises(RateLimited, match="at most 2 streams"), limits.stream(ANYBODY):
            pass
        with limits.stream(Caller("other", None, ANYBODY.scopes)):
            pass
    with pytest.raises(KeyError), limits.stream(ANYBODY):
        raise KeyError
    with limits.stream(ANYBODY), limits.stream(ANYBODY):
        pass


def test_a_long_prompt_is_refused(store):
    limits = limits_of(store, prompt_characters=10)
    limits.check_prompt("x" * 10)
    with pytest.raises(InvalidRequest, match=r"prompt: .*at most 10 characters"):
        limits.check_prompt("x" * 11)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0ms"), (0.12, "120ms"), (1, "1s"), (59.2, "1m0s"), (360, "6m0s"), (7200, "2h0m0s")]
)
def test_durations_are_written_as_openai_does(seconds, text):
    assert duration(seconds) == text


def test_settings_are_read_from_the_environment():
    given = {"VIDEOGEN_KEY_RPM": "60", "VIDEOGEN_KEY_BURST": "10", "VIDEOGEN_TENANT_RPM": "600"}
    found = read_settings({**given, "VIDEOGEN_TENANT_STREAMS": "3", "VIDEOGEN_PROMPT_CHARACTERS": "100"})
    assert found.serving_limits == ServingLimits(RateLimit(1, 10), RateLimit(10, 600), 3, 100)
    assert read_settings({}).serving_limits == ServingLimits()
    reads = {"VIDEOGEN_TENANT_READ_RPM": "600", "VIDEOGEN_KEY_READ_RPM": "60", "VIDEOGEN_KEY_READ_BURST": "5"}
    found = read_settings(reads).serving_limits
    assert (found.tenant_reads, found.key_reads) == (RateLimit(10, 600), RateLimit(1, 5))


@pytest.mark.parametrize(
    ("variable", "given"),
    [
        ("VIDEOGEN_KEY_RPM", {"VIDEOGEN_KEY_RPM": "many"}),
        ("VIDEOGEN_KEY_RPM", {"VIDEOGEN_KEY_RPM": "nan"}),
        ("VIDEOGEN_KEY_RPM", {"VIDEOGEN_KEY_RPM": "60", "VIDEOGEN_KEY_BURST": "0.5"}),
        ("VIDEOGEN_TENANT_BURST", {"VIDEOGEN_TENANT_BURST": "5"}),
        ("VIDEOGEN_TENANT_STREAMS", {"VIDEOGEN_TENANT_STREAMS": "0"}),
        ("VIDEOGEN_PROMPT_CHARACTERS", {"VIDEOGEN_PROMPT_CHARACTERS": "5000"}),
    ],
)
def test_a_setting_that_makes_no_sense_is_named(variable, given):
    with pytest.raises(InvalidSetting) as caught:
        read_settings(given)
    assert caught.value.variable == variable
