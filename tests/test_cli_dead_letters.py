"""`videogen dead-letters` on a real store."""

import json

import pytest
from typer.testing import CliRunner

from tests.store.builders import accepted
from videogen.cli import app
from videogen.requests import new_id
from videogen.store.primitives import Set, Write
from videogen.store.store import Store


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setenv("VIDEOGEN_HOME", str(tmp_path))
    with Store.open(f"embedded:{tmp_path}/store") as store:
        yield store


def failed(store, seed: int) -> str:
    one = store.submit(accepted(seed)).id
    (claim,) = store.claim([one], "worker", 60.0)
    store.fail(claim, f"no such colour as {seed}", retry=False)
    return one


def run(*arguments: str):
    return CliRunner().invoke(app, ["dead-letters", *arguments])


def test_they_are_listed_for_people_and_as_json(store):
    assert run("list").output == "no request has failed that was not asked again\n"
    assert run("list", "--json").output == ""
    ids = [failed(store, seed) for seed in (1, 2)]
    told = run("list").output
    assert all(one in told for one in ids) and told.count("1 attempt  ") == 2 and "seconds ago" in told
    assert "no such colour as 1" in told and "seed 2" in told
    letters = [json.loads(line) for line in run("list", "--json").output.splitlines()]
    assert {letter["id"]: letter["error"] for letter in letters} == {
        one: f"no such colour as {seed}" for one, seed in zip(ids, (1, 2), strict=True)
    }
    assert all(letter["attempts"] == 1 and letter["seconds_ago"] >= 0 for letter in letters)
    assert len(run("list", "--limit", "1", "--json").output.splitlines()) == 1


def test_some_or_all_are_requeued(store):
    first, *rest = [failed(store, seed) for seed in range(3)]
    told = run("requeue", first).output
    heir = store.request(first).requeued_as
    assert told == f"{first}  requeued as {heir}  queued\n"
    found = [json.loads(line) for line in run("requeue", "--all", "--json").output.splitlines()]
    assert {one["failed"] for one in found} == set(rest) and {one["state"] for one in found} == {"queued"}
    assert {record.id for record in store.waiting()} == {heir, *(one["id"] for one in found)}
    assert run("requeue", "--all").output == "no request has failed that was not asked again\n"


def test_what_cannot_be_requeued_is_named_and_nothing_is(store):
    one, waits, damaged = failed(store, 1), store.submit(accepted(2)).id, store.submit(accepted(3)).id
    store.records.write(Write("request", damaged, (Set("accepted", "{"),)))
    for bad, why in ((waits, "this is queued"), (damaged, "failed and can be read"), (new_id(), "the id of a request")):
        result = run("requeue", one, bad)
        assert result.exit_code == 2 and why in result.output and bad in result.output
    for arguments in (["requeue"], ["requeue", one, "--all"]):
        assert run(*arguments).exit_code == 2
    assert store.request(one).requeued_as is None
