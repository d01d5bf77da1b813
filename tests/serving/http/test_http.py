"""What goes beyond the openai package: ranges with curl, JSON bodies, sync, events, limits, health, the page."""

import json
import re
import socket
import subprocess
import time
from html import unescape

import httpx
import pytest

from tests.serving.http.serving import SLOW, running
from tests.serving.http.test_webhooks import until
from tests.store.builders import accepted
from videogen.serving.http import ranges
from videogen.settings import ServingLimits
from videogen.store.backends.memory import MemoryRecordStore
from videogen.store.store import Store

WISH = {"prompt": "a red ball moves left", "num_inference_steps": 3}


@pytest.fixture
def http(server):
    with httpx.Client(base_url=server.url, timeout=30) as client:
        yield client


def ended(http, video_id):
    while (video := http.get(f"/v1/videos/{video_id}").json())["status"] in ("queued", "in_progress"):
        time.sleep(0.02)
    return video


@pytest.fixture
def video(http):
    return ended(http, http.post("/v1/videos", json=WISH).json()["id"])


def curl(url, *options):
    """Status, headers and body that the real curl gets."""
    done = subprocess.run(["curl", "-s", "-i", *options, url], capture_output=True, check=True)
    head, _, body = done.stdout.partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    return int(status.split()[1]), {k.lower(): v for k, v in (line.split(": ", 1) for line in lines)}, body


def test_curl_gets_ranges(server, video):
    url = f"{server.url}/v1/videos/{video['id']}/content"
    status, headers, mp4 = curl(url)
    size, etag = len(mp4), headers["etag"]
    assert (status, headers["content-type"], headers["accept-ranges"]) == (200, "video/mp4", "bytes")
    assert headers["content-length"] == str(size)
    for text, part in (("0-9", mp4[:10]), ("100-", mp4[100:]), ("-7", mp4[-7:]), (f"5-{size + 9}", mp4[5:])):
        status, headers, body = curl(url, "-r", text)
        assert (status, body) == (206, part)
        first = mp4.index(part) if text != "-7" else size - 7
        assert headers["content-range"] == f"bytes {first}-{first + len(part) - 1}/{size}"
    status, headers, body = curl(url, "-r", f"{size}-")
    assert (status, headers["content-range"]) == (416, f"bytes */{size}") and json.loads(body)["error"][
        "param"
    ] == "range"
    for text in ("9-5", "0-1,5-6", "x-y"):
        assert curl(url, "-H", f"Range: bytes={text}")[2] == mp4
    assert curl(url, "-r", "0-4", "-H", f"If-Range: {etag}")[0] == 206
    assert curl(url, "-r", "0-4", "-H", 'If-Range: "other"')[2] == mp4
    assert curl(url, "-H", f'If-None-Match: "x", {etag}')[::2] == (304, b"")
    assert curl(url, "-I")[1]["content-length"] == str(size)


def test_a_part_says_which_bytes_it_is():
    part = ranges.wanted({"range": "bytes=-99"}, 10, '"e"')
    assert (part.status, part.start, part.stop) == (206, 0, 10)
    assert ranges.wanted({"range": "bytes=-0"}, 10, '"e"').status == 416


def test_json_takes_seconds_as_text_and_as_number(http):
    for seconds in ("2", 2, 2.0):
        assert http.post("/v1/videos", json=WISH | {"seconds": seconds}).json()["seconds"] == "2"


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "invalid_value"),
        (b"[]", 400, "invalid_value"),
        (b"{" * 30_000, 400, "invalid_value"),
        (b'{"prompt": NaN}', 400, "invalid_value"),
        (b'{"prompt": "x", "guidance_scale": 1e999}', 400, "invalid_value"),
        (b'{"prompt": "\\ud800"}', 400, "invalid_value"),
        (b'{"prompt": "x", "seed": ' + b"9" * 5000 + b"}", 400, "invalid_value"),
        (b'{"prompt": "x", "metadata": {"a": {}}}', 400, "invalid_value"),
        (b" " * 70_000, 413, "body_too_large"),
    ],
)
def test_bodies_that_are_no_request_are_refused_in_openais_shape(http, body, status, code):
    answer = http.post("/v1/videos", content=body, headers={"content-type": "application/json"})
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (status, code) and set(error) == {"message", "type", "param", "code"}


def refusals(http):
    found = re.search(r'^videogen_refusals_total{reason="invalid_request"} (.*)$', http.get("/metrics").text, re.M)
    return float(found[1])


JSON_TYPE = {"content-type": "application/json"}
REFUSED = [
    ({"json": {**WISH, "size": "1x1"}}, "size"),
    ({"json": {**WISH, "seconds": "x"}}, "seconds"),
    ({"content": "{", "headers": JSON_TYPE}, "body"),
    ({"json": {"prompt": "x" * 4_001}}, "prompt"),
    ({"json": {}}, "prompt"),
    ({"json": {**WISH, "webhook_url": "http://10.0.0.1"}}, "webhook_url"),
    ({"json": {**WISH, "input_reference": "a file"}}, "input_reference"),
]


@pytest.mark.parametrize(("given", "field"), REFUSED, ids=[field for _, field in REFUSED])
def test_every_refusal_is_counted_and_logged_once(http, server, given, field):
    before, logged = refusals(http), server.log.read_text().count("request refused")
    answer = http.post("/v1/videos", **given)
    assert answer.status_code == 400 and field in answer.json()["error"]["message"]
    assert refusals(http) == before + 1
    assert server.log.read_text().count("request refused") == logged + 1


def test_json_without_its_type_is_told_so(http):
    typed = {"content-type": "application/x-www-form-urlencoded"}  # as curl -d sends it
    answer = http.post("/v1/videos", content='{"prompt": "a ring"}', headers=typed)
    assert answer.status_code == 400 and answer.json()["error"]["param"] == "content-type"
    assert "application/json" in answer.json()["error"]["message"]


def test_a_list_goes_on_only_after_what_the_caller_has_had(http):
    first, second = (http.post("/v1/videos", json=WISH).json()["id"] for _ in range(2))
    http.delete(f"/v1/videos/{second}")
    listed = http.get("/v1/videos", params={"after": second, "limit": 1}).json()["data"]
    assert [one["id"] for one in listed] == [first]
    for unknown in ("zzz", ""):
        answer = http.get("/v1/videos", params={"after": unknown})
        assert answer.status_code == 400 and answer.json()["error"]["param"] == "after"


def test_the_root_leads_to_the_page(http):
    assert http.get("/", follow_redirects=True).url.path == "/docs"


def test_a_body_without_a_length_is_bounded_too(http):
    answer = http.post("/v1/videos", content=(b"x" * 10_000 for _ in range(20)))
    assert answer.status_code == 413


@pytest.mark.parametrize("path", ["/v1/nothing", "/v1/videos/..%00", "/v1/videos/" + "x" * 100, "/v1/videos/unknown"])
def test_what_is_not_there_is_told_in_openais_shape(http, path):
    answer = http.get(path)
    assert answer.status_code in (400, 404) and answer.json()["error"]["message"]


def test_sync_answers_with_the_mp4(http):
    answer = http.post("/v1/videos/sync", json=WISH)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "video/mp4")
    assert http.get(f"/v1/videos/{answer.headers['x-video-id']}/content").content == answer.content


@pytest.mark.parametrize("key", [None, "come-back"])
def test_who_leaves_a_sync_call_cancels_it_unless_a_key_lets_them_come_back(http, server, key):
    body = json.dumps({"prompt": WISH["prompt"], "num_inference_steps": 50}).encode()
    head = f"POST /v1/videos/sync HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n"
    head += f"Idempotency-Key: {key}\r\n\r\n" if key else "\r\n"
    before = {one["id"] for one in http.get("/v1/videos?limit=100").json()["data"]}
    with socket.create_connection(("127.0.0.1", server.http)) as gone:
        gone.sendall(head.encode() + body)
        while not (new := {one["id"] for one in http.get("/v1/videos?limit=100").json()["data"]} - before):
            time.sleep(0.01)
    video = ended(http, new.pop())
    assert (video["status"], video["cancelled"]) == (("completed", False) if key else ("failed", True))


def test_events_tell_the_progress_until_the_end(http):
    video_id = http.post("/v1/videos", json=WISH | {"num_inference_steps": 20}).json()["id"]
    with http.stream("GET", f"/v1/videos/{video_id}/events") as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        text = "".join(stream.iter_text())
    events = [(kind, json.loads(data)) for kind, data in re.findall(r"event: (\S+)\ndata: (.*)\n\n", text)]
    assert all(kind == f"video.{video['status']}" for kind, video in events)
    assert len({video["progress"] for _, video in events}) > 5
    assert [(video["status"], video["progress"]) for _, video in events[-1:]] == [("completed", 100)]


def test_events_of_a_video_that_is_deleted_end_with_an_error(http):
    video_id = http.post("/v1/videos", json=WISH | {"num_inference_steps": 50}).json()["id"]
    with http.stream("GET", f"/v1/videos/{video_id}/events") as stream:
        lines = stream.iter_lines()
        assert next(lines).startswith("event: video.")
        http.delete(f"/v1/videos/{video_id}")
        *_, kind, data, _ = lines
    assert kind == "event: error"
    assert json.loads(data.removeprefix("data: "))["error"]["code"] == "not_found"


def test_a_tenant_has_a_bounded_number_of_streams():
    limits = ServingLimits(tenant_streams=1)
    with running(limits=limits, device=SLOW) as server:
        video_id = httpx.post(f"{server.url}/v1/videos", json=WISH | {"num_inference_steps": 50}).json()["id"]
        url = f"{server.url}/v1/videos/{video_id}/events"
        with httpx.stream("GET", url) as first:
            pieces = first.iter_raw()  # held: without it the stream is closed
            next(pieces)
            assert httpx.get(url).status_code == 429
            assert httpx.post(f"{server.url}/v1/videos/sync", json=WISH).status_code == 429
            known = httpx.get(f"{server.url}/v1/videos").json()["data"]
            assert [video["id"] for video in known] == [video_id], "what is refused is not made"


def test_a_long_video_that_is_read_is_one_of_its_tenants_streams():
    records = MemoryRecordStore()
    request = Store(records).submit(accepted())
    (claim,) = Store(records).claim([request.id], "w", 60.0)
    Store(records).publish(claim, bytes(32 * 2**20), {})
    with running(records, ServingLimits(tenant_streams=1)) as server:
        url = f"{server.url}/v1/videos/{request.id}/content"
        with httpx.stream("GET", url) as first:
            pieces = first.iter_raw(1024)  # held: without it the stream is closed
            next(pieces)
            refused = httpx.get(url)
            assert (refused.status_code, refused.json()["error"]["code"]) == (429, "rate_limit_exceeded")
            assert len(httpx.get(url, headers={"range": "bytes=0-99"}).content) == 100, "it is there at once"
        until(lambda: httpx.get(url).status_code == 200)


def test_prompts_are_as_long_as_the_settings_allow():
    with running(limits=ServingLimits(prompt_characters=20)) as server:
        url = f"{server.url}/v1/videos"
        video_id = httpx.post(url, json={"prompt": "x" * 20}).json()["id"]
        for path in ("", "/sync", f"/{video_id}/remix"):
            error = httpx.post(url + path, json={"prompt": "x" * 21}).json()["error"]
            assert error["param"] == "prompt" and "at most 20 characters" in error["message"]


def test_health_readiness_and_metrics(http):
    assert http.get("/healthz").json() == {"live": True}
    assert http.get("/readyz").json() == {"ready": True, "reasons": []}
    assert "# TYPE videogen_" in http.get("/metrics").text


def test_the_page_names_every_route_and_loads_nothing_from_elsewhere(http):
    page, document = http.get("/docs").text, http.get("/openapi.json").json()
    assert len(document["paths"]) >= 14 and all(path in page for path in document["paths"])
    assert "num_inference_steps" in page and not re.search(r"""(?:src|href)=['"]?(?:https?:)?//|<script""", page)


def test_the_document_says_which_calls_need_a_key_and_so_does_the_page():
    with running() as server, httpx.Client(base_url=server.url, timeout=30) as http:
        server.keys.create("acme", {"user"})
        document, page = http.get("/openapi.json").json(), http.get("/docs").text
        [(name, scheme)] = document["components"]["securitySchemes"].items()
        assert (scheme["type"], scheme["scheme"]) == ("http", "bearer") and scheme["description"] in unescape(page)
        for path, methods in document["paths"].items():
            for method, operation in methods.items():
                status = http.request(method, re.sub("{.*}", "abc", path)).status_code
                assert (status == 401) == (operation.get("security") == [{name: []}]), (method, path)
        example = page.partition("/v1/videos/{video_id}/events")[2].partition("</pre>")[0]
        assert "authorization: Bearer $VIDEOGEN_API_KEY" in unescape(example)
        assert "Bearer" not in page.partition("/healthz")[2].partition("</pre>")[0]
