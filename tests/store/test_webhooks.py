"""Calls that are still to be made: one taker at a time, none forgotten, dead ones listed."""

import dataclasses

from videogen.store.primitives import MapPut, Write
from videogen.store.webhooks import SHARDS, Webhook, Webhooks, shard_of

ONE = Webhook("r1", "https://hooks.example/x", "default", "k1")


def entries(records):
    shards = (f"{number:02d}" for number in range(SHARDS))
    return [(shard, *entry) for shard in shards for entry in records.map_range(Webhooks.due_kind, shard)]


def test_on_every_backend_one_taker_gets_it(records):
    webhooks, others = Webhooks(records), Webhooks(records)
    webhooks.add(ONE)
    ((turn, webhook),) = others.take(10, hold_s=30)
    assert webhook == ONE and webhooks.take(10, hold_s=30) == []
    others.later(turn, -1, attempts=3, waited=0)
    ((turn, _),) = webhooks.take(10, hold_s=30)
    assert turn.attempts == 3
    webhooks.end(turn, "dead", 4, "answered 500")
    (dead,) = others.list_dead()
    assert dead == dataclasses.replace(ONE, state="dead", attempts=4, error="answered 500")
    assert entries(records) == []


def test_what_was_added_twice_is_one_and_is_taken_again_when_its_holder_died(plain, clock):
    webhooks = Webhooks(plain)
    webhooks.add(ONE)
    webhooks.add(dataclasses.replace(ONE, url="https://other.example"))
    assert [webhook for _, webhook in webhooks.take(10, hold_s=30)] == [ONE]
    assert webhooks.take(10, hold_s=30) == []
    clock.pass_(31)
    assert [webhook for _, webhook in Webhooks(plain).take(10, hold_s=30)] == [ONE]


def test_what_was_given_up_before_its_request_came_is_taken_again_with_it_and_what_was_called_is_not(plain, clock):
    webhooks = Webhooks(plain)
    for attempts, again in ((0, [ONE]), (3, [])):
        webhooks.add(ONE)
        ((turn, _),) = webhooks.take(10, hold_s=30)
        webhooks.end(turn, "dead", attempts, "there is no such video")
        webhooks.add(ONE)
        clock.pass_(2)
        assert [webhook for _, webhook in webhooks.take(10, hold_s=30)] == again
        clock.pass_(31)


def test_who_lost_it_cannot_put_it_off(plain, clock):
    webhooks = Webhooks(plain)
    webhooks.add(ONE)
    ((late, _),) = webhooks.take(10, hold_s=30)
    clock.pass_(31)
    ((turn, _),) = webhooks.take(10, hold_s=30)
    webhooks.later(late, 3600, attempts=9, waited=0)
    webhooks.later(turn, 5, attempts=1, waited=0)
    clock.pass_(6)
    ((again, _),) = webhooks.take(10, hold_s=30)
    assert again.attempts == 1


def test_what_was_delivered_is_not_taken_even_if_its_turn_was_left(plain, clock):
    webhooks = Webhooks(plain)
    webhooks.add(ONE)
    ((turn, _),) = webhooks.take(10, hold_s=30)
    webhooks.end(turn, "delivered", 1)
    plain.write(Write(Webhooks.due_kind, shard_of(ONE.id), (MapPut(turn.key, turn.value),)))
    clock.pass_(31)
    assert webhooks.take(10, hold_s=30) == [] == entries(plain)
    delivered = webhooks.get(ONE.id)
    assert delivered is not None and delivered.state == "delivered"


def test_a_turn_without_a_record_waits_for_it_and_is_dropped_in_the_end(plain, clock):
    webhooks = Webhooks(plain)
    plain.write(Write(Webhooks.due_kind, shard_of("r2"), (MapPut(f"{0:015d}r2", "0 0"),)))
    assert webhooks.take(10, hold_s=30) == [] and len(entries(plain)) == 1
    for _ in range(70):
        clock.pass_(2)
        assert webhooks.take(10, hold_s=30) == []
    assert entries(plain) == []
