import threading
import uuid

import pytest

from tests.store.builders import Clock, accepted, memory_store
from videogen.errors import InvalidRequest
from videogen.store.backends.memory import MemoryRecordStore
from videogen.store.idempotency import Idempotency
from videogen.store.store import Store

GIVEN = Idempotency("key-1", "body")


def again(request):
    """The same wish, accepted a second time: another id, another seed that was drawn."""
    drawn = request.request.model_copy(update={"seed": 12345})
    return request.model_copy(update={"id": str(uuid.uuid4()), "request": drawn})


def test_a_key_sent_twice_is_one_request():
    store, wish = memory_store(), accepted(1)
    first = store.submit(wish, idempotency=GIVEN)
    second = store.submit(again(wish), idempotency=GIVEN)
    assert second.id == first.id == wish.id and second.accepted.request.seed == 1
    assert len(store.requests()) == 1


def test_a_key_with_another_request_is_refused_and_names_the_key():
    store = memory_store()
    store.submit(accepted(1), idempotency=GIVEN)
    with pytest.raises(InvalidRequest, match=r"idempotency_key: got .key-1.; allowed: a key that was not sent"):
        store.submit(accepted(2), idempotency=Idempotency("key-1", "another body"))
    assert len(store.requests()) == 1


def test_tenants_and_keys_do_not_meet():
    store = memory_store()
    ids = {
        store.submit(accepted(1, tenant=tenant), idempotency=Idempotency(key, "body")).id
        for tenant in ("a", "b")
        for key in ("x", "y", "x\0")
    }
    assert len(ids) == 6


def test_a_process_that_died_before_the_request_was_there_is_gone_on_with():
    records, wish = MemoryRecordStore(Clock()), accepted(1)
    Store(records)._keys.first(wish, GIVEN)  # and here it died
    store = Store(records)
    assert store.submit(again(wish), idempotency=GIVEN).id == wish.id
    assert store.request(wish.id).state == "queued"


def test_a_key_is_free_again_after_its_time():
    clock = Clock()
    store = memory_store(clock)
    first = store.submit(accepted(1), idempotency=GIVEN)
    clock.pass_(store.limits.keep_requests + 1)
    assert store.submit(again(accepted(1)), idempotency=GIVEN).id != first.id


@pytest.mark.parametrize("key", ["", "x" * 256])
def test_a_key_that_no_client_means_is_refused(key):
    with pytest.raises(InvalidRequest, match="1 to 255 characters"):
        Idempotency(key, "body")


def test_of_many_that_send_one_key_at_once_all_get_one_request(records):
    found, wishes = [], [again(accepted(1)) for _ in range(6)]
    stores = [Store(records) for _ in wishes]
    threads = [
        threading.Thread(target=lambda s=store, w=wish: found.append(s.submit(w, idempotency=GIVEN).id))
        for store, wish in zip(stores, wishes, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 6 and len(set(found)) == 1 and len(stores[0].requests()) == 1
