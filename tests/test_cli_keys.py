"""`videogen keys` on a real store."""

import json

import pytest
from typer.testing import CliRunner

from videogen.cli import app
from videogen.store.api_keys import split
from videogen.store.rate_limits import RateLimit
from videogen.store.store import Store


@pytest.fixture
def url(tmp_path, monkeypatch):
    monkeypatch.setenv("VIDEOGEN_HOME", str(tmp_path))
    return f"embedded:{tmp_path}/store"


def run(*arguments: str):
    return CliRunner().invoke(app, ["keys", *arguments])


def test_a_key_is_shown_once_and_works(url):
    assert "no key was made" in run("list").output
    done = run("create", "--tenant", "acme", "--note", "the loader", "--rpm", "60", "--burst", "10")
    text = done.stdout.strip()
    key_id, secret = split(text)
    assert done.exit_code == 0 and key_id in done.stderr and secret not in done.stderr
    with Store.open(url) as store:
        key = store.api_keys.get(key_id)
    assert key.accepts(secret) and key.limit == RateLimit(1.0, 10) and key.scopes == {"user"}
    listed = run("list").output
    assert listed == f"{key_id}  in force  acme  user  60 a minute, 10 at once  the loader\n"
    assert secret not in run("list", "--json").output


def test_a_key_may_have_a_limit_of_looks(url):
    done = run("create", "--tenant", "acme", "--read-rpm", "600", "--read-burst", "20", "--json")
    made = json.loads(done.stdout)
    assert (made["rpm"], made["read_rpm"], made["read_burst"]) == (None, 600, 20)
    with Store.open(url) as store:
        key = store.api_keys.get(made["id"])
    assert (key.limit, key.reads) == (None, RateLimit(10.0, 20))
    assert run("list").output == f"{made['id']}  in force  acme  user  600 looks a minute, 20 at once\n"


def test_a_key_is_revoked_by_its_id(url):
    made = json.loads(run("create", "--tenant", "acme", "--scope", "admin", "--json").stdout)
    assert made["scopes"] == ["admin", "user"] and made["rpm"] is None
    assert run("revoke", made["id"]).output == f"{made['id']}  revoked\n"
    assert json.loads(run("list", "--json").output)["revoked"] is True
    with Store.open(url) as store:
        assert not store.api_keys.get(made["id"]).accepts(split(made["key"])[1])
    refused = run("revoke", "nobody")
    told = "videogen: KEY: got 'nobody'; allowed: the id of a key, as `videogen keys list` prints it\n"
    assert (refused.exit_code, refused.stderr) == (2, told)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--tenant", "a b"), "tenant: got 'a b'"),
        (("--tenant", "acme", "--scope", "root"), "scope: got ['root']; allowed: one or more of user, admin"),
        (("--tenant", "acme", "--burst", "5"), "burst: got 5.0; allowed: only with --rpm"),
        (("--tenant", "acme", "--rpm", "0"), "rpm: got 0.0; allowed: a number above 0"),
        (("--tenant", "acme", "--read-burst", "5"), "read-burst: got 5.0; allowed: only with --read-rpm"),
        (("--tenant", "acme", "--read-rpm", "0"), "read-rpm: got 0.0; allowed: a number above 0"),
    ],
)
def test_what_is_not_allowed_ends_with_code_2_and_no_key(url, arguments, told):
    done = run("create", *arguments)
    assert done.exit_code == 2 and told in done.stderr and "no key" in run("list").output
