"""`videogen webhooks` on a real store: what was given up is listed, and is due again on demand."""

import json
import time

import pytest
from typer.testing import CliRunner

from videogen.cli import app
from videogen.store.store import Store
from videogen.store.webhooks import Webhook


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setenv("VIDEOGEN_HOME", str(tmp_path))
    with Store.open(f"embedded:{tmp_path}/store") as store:
        yield store


def given_up(store: Store, video_id: str) -> None:
    store.webhooks.add(Webhook(video_id, f"https://example.com/{video_id}", "acme"))
    ((turn, webhook),) = store.webhooks.take(10, 60.0)
    assert webhook.id == video_id
    store.webhooks.end(turn, "dead", 8, "answered 500")


def due(store: Store) -> list[tuple[str, int]]:
    deadline = time.monotonic() + 30
    while not (taken := store.webhooks.take(10, 60.0)):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return [(webhook.id, turn.attempts) for turn, webhook in taken]


def run(*arguments: str):
    return CliRunner().invoke(app, ["webhooks", *arguments])


def test_they_are_listed_for_people_and_as_json(store):
    assert run("list").output == "no webhook was given up\n"
    given_up(store, "one")
    assert run("list").output == "one  https://example.com/one  8 calls\n  answered 500\n"
    assert json.loads(run("list", "--json").output)["state"] == "dead"


def test_one_that_is_retried_is_due_once_and_leaves_the_list(store):
    given_up(store, "one")
    given_up(store, "two")
    assert run("retry", "one").output == "one  is called again\n"
    assert [one.id for one in store.webhooks.list_dead()] == ["two"]
    assert run("retry", "one").exit_code == 2  # it is on its way: a second turn would call it twice
    assert due(store) == [("one", 0)]
    assert run("retry", "--all").output == "two  is called again\n"


@pytest.mark.parametrize("arguments", [(), ("one", "--all"), ("unknown",)])
def test_what_cannot_be_meant_is_refused(store, arguments):
    given_up(store, "one")
    told = run("retry", *arguments)
    assert told.exit_code == 2
    assert [one.id for one in store.webhooks.list_dead()] == ["one"]
