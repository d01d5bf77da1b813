"""Webhooks from a real server to a real receiver, verified with the openai package."""

import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import openai
import pytest

from tests.serving.http.serving import SECRET, SLOW, running
from tests.serving.http.test_outgoing import receiver  # noqa: F401
from tests.serving.running import ROOT, serving
from tests.store.builders import accepted
from videogen.errors import StoreUnavailable
from videogen.serving import outgoing, webhooks
from videogen.settings import ServingLimits
from videogen.store.backends.memory import MemoryRecordStore
from videogen.store.rate_limits import RateLimit
from videogen.store.store import Store
from videogen.store.webhooks import Webhook

WISH = {"prompt": "a red ball moves left", "num_inference_steps": 3}


def until(condition, seconds=30):
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


def ask(server, receiver, path="/hook", **fields):  # noqa: F811
    url = f"http://127.0.0.1:{receiver.server_port}{path}"
    answer = httpx.post(f"{server.url}/v1/videos", json=WISH | fields | {"webhook_url": url})
    assert answer.status_code == 200, answer.text
    return answer.json()["id"]


def test_the_end_of_a_video_is_told_and_its_signature_verifies(receiver):  # noqa: F811
    with running() as server:
        video_id = ask(server, receiver)
        until(lambda: receiver.seen)
        until(lambda: server.webhooks.get(video_id).state == "delivered")
    _, headers, body = receiver.seen[0]
    client = openai.OpenAI(api_key="none", webhook_secret=SECRET)
    client.webhooks.verify_signature(body, headers)
    with pytest.raises(openai.InvalidWebhookSignatureError):
        client.webhooks.verify_signature(body.replace(b"completed", b"failed"), headers)
    event = json.loads(body)
    assert (event["object"], event["type"], event["data"]["id"]) == ("event", "video.completed", video_id)
    assert event["id"] == headers["webhook-id"] and len(receiver.seen) == 1


def test_the_real_service_tells_it_too(server, receiver):  # noqa: F811
    video_id = ask(server, receiver)
    until(lambda: receiver.seen)
    _, headers, body = receiver.seen[0]
    openai.OpenAI(api_key="none", webhook_secret=SECRET).webhooks.verify_signature(body, headers)
    assert json.loads(body)["data"] == {"id": video_id, "status": "completed", "cancelled": False}


def test_a_cancelled_video_is_told_as_failed(receiver):  # noqa: F811
    with running(device=SLOW) as server:
        video_id = ask(server, receiver, num_inference_steps=50)
        httpx.post(f"{server.url}/v1/videos/{video_id}/cancel")
        until(lambda: receiver.seen)
    event = json.loads(receiver.seen[0][2])
    assert (event["type"], event["data"]["cancelled"]) == ("video.failed", True)


def test_a_failed_call_is_repeated_with_the_same_id_until_it_is_taken(receiver):  # noqa: F811
    receiver.answers["/hook"] = 500
    with running(pauses_s=(0.1,) * 50) as server:
        video_id = ask(server, receiver)
        until(lambda: len(receiver.seen) >= 2)
        receiver.answers["/hook"] = 204
        until(lambda: server.webhooks.get(video_id).state == "delivered")
    assert len({headers["webhook-id"] for _, headers, _ in receiver.seen}) == 1


def test_calls_are_bounded_and_the_dead_are_listed(receiver, caplog):  # noqa: F811
    caplog.set_level("INFO")
    receiver.answers |= {"/hook": 500, "/gone": 410}
    with running(pauses_s=(0.1, 0.1)) as server:
        video_id, gone = ask(server, receiver), ask(server, receiver, "/gone")
        dead = until(lambda: len(found := server.webhooks.list_dead()) == 2 and {one.id: one for one in found})
    assert (dead[video_id].attempts, dead[video_id].error) == (3, "answered 500")
    assert dead[gone].attempts == 1
    assert f"webhook of video {video_id} failed (call 1), next in 0 s: answered 500" in caplog.text
    assert [path for path, _, _ in receiver.seen].count("/hook") == 3


def test_a_receiver_that_does_not_answer_keeps_no_other_from_being_called(receiver):  # noqa: F811
    receiver.answers["/slow"] = threading.Event()
    with running(pauses_s=()) as server:
        slow = ask(server, receiver, "/slow")
        until(lambda: receiver.seen)
        video_id = ask(server, receiver)
        until(lambda: server.webhooks.get(video_id).state == "delivered")
        assert server.webhooks.get(slow).state == "pending", "its call is still under way"
        receiver.answers["/slow"].set()
        until(lambda: server.webhooks.get(slow).state == "delivered")


def test_another_replica_goes_on_with_what_one_left(receiver):  # noqa: F811
    """The first is stopped before anything could be told; the second has only the store in common with it."""
    records = MemoryRecordStore()
    receiver.answers["/hook"] = 500
    with running(records, pauses_s=(1.0,) * 9) as first:
        video_id = ask(first, receiver)
        until(lambda: receiver.seen)
    receiver.answers["/hook"] = 200
    before = len(receiver.seen)
    with running(records) as second:
        until(lambda: second.webhooks.get(video_id).state == "delivered")
    assert len(receiver.seen) > before


def test_without_a_secret_a_webhook_is_refused(receiver):  # noqa: F811
    with running(secret=None) as server:
        url = f"http://127.0.0.1:{receiver.server_port}/hook"
        answer = httpx.post(f"{server.url}/v1/videos", json=WISH | {"webhook_url": url})
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (400, "webhook_url") and "VIDEOGEN_WEBHOOK_SECRET" in error[
        "message"
    ]


def test_a_webhook_that_is_there_before_its_request_waits_for_it(receiver):  # noqa: F811
    records, asked = MemoryRecordStore(), accepted()
    with running(records) as server:
        server.webhooks.add(Webhook(asked.id, f"http://127.0.0.1:{receiver.server_port}/hook", asked.request.tenant))
        time.sleep(2.5)  # it is looked at meanwhile
        assert server.webhooks.get(asked.id).state == "pending"
        Store(records).submit(asked)
        Store(records).cancel(asked.id)
        until(lambda: server.webhooks.get(asked.id).state == "delivered")
    assert json.loads(receiver.seen[0][2])["data"]["id"] == asked.id


def test_a_webhook_whose_request_never_comes_is_given_up(monkeypatch):
    monkeypatch.setattr(webhooks, "MOST_MISSED", 1)
    with running() as server:
        server.webhooks.add(Webhook("never-accepted", "http://127.0.0.1/hook", "default"))
        (dead,) = until(server.webhooks.list_dead)
        assert (dead.id, dead.attempts) == ("never-accepted", 0) and "never accepted" in dead.error


def test_names_are_looked_up_for_those_who_may_ask_and_a_slow_one_keeps_nobody_waiting(monkeypatch):
    asked, gate, real = [], threading.Event(), socket.getaddrinfo

    def look_up(host, *args, **kwargs):
        if host != "slow.example":
            return real(host, *args, **kwargs)
        asked.append(host)
        gate.wait(30)
        raise socket.gaierror

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    limits = ServingLimits(tenant=RateLimit.per_minute(0.01, burst=50))
    with running(limits=limits) as server, ThreadPoolExecutor(51) as callers:
        sent = WISH | {"webhook_url": "https://slow.example/hook"}
        waiting = [callers.submit(httpx.post, f"{server.url}/v1/videos", json=sent, timeout=30) for _ in range(51)]
        until(lambda: asked)
        began = time.monotonic()
        assert httpx.get(f"{server.url}/metrics", timeout=30).status_code == 200
        assert time.monotonic() - began < outgoing.RESOLVE_S
        gate.set()
        assert sorted(one.result().status_code for one in waiting) == [400] * 50 + [429]


class Failing(MemoryRecordStore):
    """Cannot write records of one kind."""

    def __init__(self, kind):
        super().__init__()
        self.kind = kind

    def write_many(self, writes):
        if any(write.kind == self.kind for write in writes):
            raise StoreUnavailable(f"{self.kind} cannot be written")
        return super().write_many(writes)


def test_what_cannot_have_its_webhook_recorded_is_not_accepted():
    with running(Failing("webhook")) as server:
        url = f"{server.url}/v1/videos"
        assert httpx.post(url, json=WISH | {"webhook_url": "http://127.0.0.1/hook"}).status_code == 503
        assert httpx.get(url).json()["data"] == []
        assert httpx.post(url, json=WISH).status_code == 200


def test_a_service_that_dies_between_the_two_leaves_the_webhook_to_the_same_request_sent_again(receiver):  # noqa: F811
    """The store fails where the process would have died: the webhook is there, its request is not."""
    records, headers = Failing("request"), {"idempotency-key": "order-17"}
    url = f"http://127.0.0.1:{receiver.server_port}/hook"
    with running(records) as server:
        sent = {"url": f"{server.url}/v1/videos", "json": WISH | {"webhook_url": url}, "headers": headers}
        assert httpx.post(**sent).status_code == 503
        (recorded,) = (key for kind, key in records.names() if kind == "webhook")
        time.sleep(2.5)  # it was looked at, and not given up
        records.kind = None
        assert httpx.post(**sent).json()["id"] == recorded
        until(lambda: server.webhooks.get(recorded).state == "delivered")
    assert len(receiver.seen) == 1


def test_a_request_sent_again_after_its_webhook_was_given_up_is_told_all_the_same(receiver, monkeypatch):  # noqa: F811
    monkeypatch.setattr(webhooks, "MOST_MISSED", 0)
    records, headers = Failing("request"), {"idempotency-key": "order-17"}
    url = f"http://127.0.0.1:{receiver.server_port}/hook"
    with running(records) as server:
        sent = {"url": f"{server.url}/v1/videos", "json": WISH | {"webhook_url": url}, "headers": headers}
        assert httpx.post(**sent).status_code == 503
        (given_up,) = until(server.webhooks.list_dead)
        records.kind = None
        assert httpx.post(**sent).json()["id"] == given_up.id
        until(lambda: server.webhooks.get(given_up.id).state == "delivered")
    assert len(receiver.seen) == 1


def test_what_is_refused_leaves_no_webhook_behind():
    records = MemoryRecordStore()
    with running(records) as server:
        hook = {"webhook_url": "http://127.0.0.1/hook"}
        key = {"idempotency-key": "order-17"}
        url = f"{server.url}/v1/videos"
        assert httpx.post(url, json=WISH, headers=key).status_code == 200
        refused = [
            httpx.post(url, json=WISH | hook | {"seed": 3}, headers=key),
            httpx.post(url, json=WISH | hook | {"num_inference_steps": 1_000_000}),
            httpx.post(url, json=WISH | hook | {"deadline": 0.001}),
        ]
        assert [one.status_code for one in refused] == [400, 400, 429]
        server.service.readiness.draining = True
        assert httpx.post(url, json=WISH | hook).status_code == 503
        server.service.readiness.draining = False
        assert not [key for kind, key in records.names() if kind in ("webhook", "webhooks-due")]


DIES = """
import os, pathlib
from videogen.store.webhooks import Webhooks
real = Webhooks.add

def add(self, webhook):
    when = pathlib.Path(os.environ["DIES"]).read_text()
    if when == "before":
        os._exit(9)
    real(self, webhook)
    if when == "after":
        os._exit(9)

Webhooks.add = add
"""
"""For the service: it ends without a word where a webhook is recorded, if a file says so."""


@pytest.mark.slow
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_service_that_is_killed_while_it_accepts_loses_no_webhook(tmp_path, receiver, when):  # noqa: F811
    (tmp_path / "sitecustomize.py").write_text(DIES)
    (told := tmp_path / "when").write_text(when)
    settings = {"VIDEOGEN_WEBHOOK_SECRET": SECRET, "VIDEOGEN_OUTGOING_ALLOW": "127.0.0.1"}
    settings |= {"PYTHONPATH": f"{tmp_path}:{ROOT}", "DIES": str(told)}
    key = {"idempotency-key": "order-17"}
    body = WISH | {"webhook_url": f"http://127.0.0.1:{receiver.server_port}/hook"}
    with serving(tmp_path / "home", **settings) as first:
        with pytest.raises(httpx.TransportError):
            httpx.post(f"{first.url}/v1/videos", json=body, headers=key, timeout=30)
        assert first.process.wait(30) == 9
    told.write_text("never")
    with serving(tmp_path / "home", **settings) as second:
        assert second.ask("/v1/videos")["data"] == [], "it had not said that it takes the request"
        video_id = httpx.post(f"{second.url}/v1/videos", json=body, headers=key, timeout=30).json()["id"]
        until(lambda: receiver.seen)
        assert json.loads(receiver.seen[0][2])["data"]["id"] == video_id
