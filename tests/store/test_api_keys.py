"""API keys on every backend: what is kept of them, and how they end."""

import hashlib

import pytest

from videogen.errors import InvalidRequest, RecordDamaged, RecordNotFound
from videogen.store import api_keys
from videogen.store.api_keys import ApiKeys, split
from videogen.store.primitives import Set, Write
from videogen.store.rate_limits import RateLimit


def test_a_key_is_found_by_its_id_on_every_backend(records):
    keys = ApiKeys(records)
    assert not keys.were_made() and keys.find_all() == []
    text, made = keys.create("acme", ["admin"], "the loader", RateLimit(1, 10), RateLimit(5, 20))
    key_id, secret = split(text)
    assert keys.were_made() and keys.get(key_id) == made and keys.find_all() == [made]
    assert (made.tenant, made.scopes, made.note) == ("acme", {"user", "admin"}, "the loader")
    assert made.accepts(secret) and not made.accepts(secret[:-1] + ("A" if secret[-1] != "A" else "B"))
    other, _ = keys.create("beta")
    assert other != text and keys.get(split(other)[0]).scopes == {"user"} and keys.get(split(other)[0]).limit is None
    assert [key.id for key in keys.find_all()] == [made.id, split(other)[0]]


def test_a_revoked_key_accepts_no_more_and_stays_known(records):
    keys = ApiKeys(records)
    text, made = keys.create("acme")
    revoked = keys.revoke(made.id)
    assert revoked.revoked_at is not None and not keys.get(made.id).accepts(split(text)[1])
    assert keys.revoke(made.id) == revoked and keys.were_made()
    with pytest.raises(RecordNotFound, match="no API key 'nobody'"):
        keys.revoke("nobody")
    with pytest.raises(RecordNotFound):
        keys.get("0" * 16)


def test_the_secret_is_nowhere_in_the_store(plain):
    text, made = ApiKeys(plain).create("acme", note="n")
    secret = split(text)[1]
    held = "".join(f"{key}{plain.read(kind, key).bins}{plain.map_range(kind, key)}" for kind, key in plain.names())
    assert secret not in held and text not in held and hashlib.sha256(secret.encode()).hexdigest() in held
    assert len(secret) * 6 >= 256 and made.digest not in text


def test_a_crash_before_the_keys_own_record_leaves_nothing_that_shows(plain):
    keys = ApiKeys(plain)
    _, made = keys.create("acme")
    keys.records.write(Write(ApiKeys.index_kind, "all", (api_keys.MapPut("f" * 16),)))
    assert keys.find_all() == [made]


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"tenant": ""}, "tenant"),
        ({"tenant": "a/b"}, "tenant"),
        ({"tenant": "x" * 65}, "tenant"),
        ({"tenant": "acme", "scopes": ["root"]}, "scope"),
        ({"tenant": "acme", "scopes": []}, "scope"),
        ({"tenant": "acme", "note": "two\nlines"}, "note"),
        ({"tenant": "acme", "note": "n" * 201}, "note"),
    ],
)
def test_what_is_not_allowed_is_named_and_makes_no_key(plain, arguments, field):
    with pytest.raises(InvalidRequest) as caught:
        ApiKeys(plain).create(**arguments)
    assert caught.value.field == field and not ApiKeys(plain).were_made()


def test_there_is_an_end_to_keys(plain, monkeypatch):
    monkeypatch.setattr(api_keys, "MOST", 2)
    keys = ApiKeys(plain)
    keys.create("a"), keys.create("b")
    with pytest.raises(InvalidRequest, match="at most 2 keys"):
        keys.create("c")


def test_a_damaged_key_is_said_to_be_one(plain):
    keys = ApiKeys(plain)
    _, made = keys.create("acme")
    plain.write(Write(ApiKeys.kind, made.id, (Set("digest", 5),)))
    with pytest.raises(RecordDamaged, match="digest"):
        keys.get(made.id)


@pytest.mark.parametrize("text", ["", "vg_", "sk-abc", "vg_xyz_" + "a" * 43, "vg_" + "0" * 16 + "_short"])
def test_what_has_not_a_keys_form_is_none(text):
    assert split(text) is None
