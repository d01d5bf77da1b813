"""Calls that are wrong, each in one way: the answer names what was given and what is allowed, in OpenAI's shape."""

import httpx
import pytest

from tests.serving.http.serving import SLOW, running

URL = "/v1/videos"


@pytest.fixture
def http(server):
    with httpx.Client(base_url=server.url, timeout=30) as client:
        yield client


@pytest.mark.parametrize(
    ("method", "path", "status", "param", "told"),
    [
        ("GET", f"{URL}?limit=0", 400, "limit", "got '0'; allowed: a whole number from 1 to 100"),
        ("GET", f"{URL}?limit=ten", 400, "limit", "got 'ten'; allowed: a whole number from 1 to 100"),
        ("GET", f"{URL}?order=up", 400, "order", "got 'up'; allowed: asc or desc"),
        ("GET", f"{URL}?after={'x' * 65}", 400, "after", "at most 64 characters"),
        ("GET", f"{URL}?after=nope", 400, "after", "got 'nope'; allowed: the id of a video of yours"),
        ("GET", f"{URL}/no%20pe", 400, "video_id", "got 'no pe'; allowed: a text that matches ^[A-Za-z0-9_-]{1,64}$"),
        ("HEAD", f"{URL}/x/content?variant=gif", 400, None, ""),
        ("GET", f"{URL}/x/content?variant=gif", 400, "variant", "allowed: video or thumbnail or spritesheet"),
        ("GET", f"{URL}/nope", 404, None, "there is no video 'nope'"),
        ("GET", "/v1/models/nope", 404, "model", "got 'nope'; allowed: synthetic@1"),
        ("GET", "/v1/vidoes", 404, "path", "got '/v1/vidoes'; allowed: what /docs lists"),
        ("PUT", URL, 405, "method", "got PUT for /v1/videos; allowed: GET, POST"),
        ("POST", f"{URL}/x", 405, "method", "got POST for /v1/videos/x; allowed: DELETE, GET"),
    ],
)
def test_a_wrong_address_is_told_with_what_is_there(http, method, path, status, param, told):
    answer = http.request(method, path)
    assert answer.status_code == status
    if method != "HEAD":
        error = answer.json()["error"]
        assert error["param"] == param and told in error["message"]
    if status == 405:
        assert answer.headers["allow"] in told


@pytest.mark.parametrize(
    ("sent", "status", "param", "told"),
    [
        ({"json": {"prompt": "x", "seconds": "soon"}}, 400, "seconds", "a text or a number: 2 at 8 frames a second"),
        ({"json": {"prompt": "x", "model": 3}}, 400, "model", "got 3; allowed: text"),
        ({"json": {"prompt": "x", "model": "sora-2"}}, 404, "model", "allowed: synthetic"),
        ({"files": {"prompt": ("a.txt", b"a red ball")}}, 400, "prompt", "got 'the file a.txt'; allowed: a value"),
        ({"files": {"model": ("a.txt", b"tiny")}, "data": {"prompt": "x"}}, 400, "model", "got 'the file a.txt'"),
        ({"files": {"metadata[a]": ("a.txt", b"b")}, "data": {"prompt": "x"}}, 400, "metadata[a]", "not a file"),
        ({"files": {"input_reference": ("a.png", b"x")}, "data": {"prompt": "x"}}, 400, "input_reference", "no model"),
        ({"content": b" " * 70_000}, 413, "body", "got 70,000 bytes; allowed: at most 65,536"),
        ({"content": (b" " * 10_000 for _ in range(20))}, 413, "body", "got more bytes; allowed: at most 65,536"),
    ],
)
def test_a_wrong_body_is_told_with_what_is_allowed(http, sent, status, param, told):
    answer = http.post(URL, **sent)
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (status, param) and told in error["message"]


def test_what_a_remix_cannot_change_is_told(http):
    video = http.post(URL, json={"prompt": "a red ball", "seed": 3}).json()["id"]
    remixed = http.post(f"{URL}/{video}/remix", json={"prompt": "a blue ball", "seed": 4}).json()
    assert remixed["warnings"] == ["seed: a remix changes the prompt only, ignored"]
    assert remixed["parameters"]["seed"] == 3


def test_a_video_of_another_tenant_is_told_as_one_that_never_was():
    with running(device=SLOW) as server:
        texts = [server.keys.create(tenant, {"user"})[0] for tenant in ("acme", "beta")]
        acme, beta = ({"authorization": f"Bearer {text}"} for text in texts)
        video = httpx.post(server.url + URL, json={"prompt": "a red ball"}, headers=acme).json()["id"]
        for path, method in (("", "GET"), ("", "DELETE"), ("/cancel", "POST"), ("/content", "GET"), ("/events", "GET")):
            told = []
            for name in (video, "0" * len(video)):
                answer = httpx.request(method, f"{server.url}{URL}/{name}{path}", headers=beta)
                assert answer.status_code == 404
                told.append(answer.json()["error"]["message"].replace(name, "ID"))
            assert told[0] == told[1] == "there is no video 'ID'"
