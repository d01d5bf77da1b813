"""The openai package, unmodified, against a real server on loopback."""

import hashlib
import io
import time

import openai
import pytest
from PIL import Image

from tests.serving.http.serving import running
from videogen.media.mp4 import decode_mp4
from videogen.settings import ServingLimits
from videogen.store.rate_limits import RateLimit

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
PROMPT = "a red ball moves left"
SHORT = {"num_inference_steps": 3}


def make(client, **fields):
    extra = SHORT | fields.pop("extra_body", {})
    return client.videos.create_and_poll(prompt=PROMPT, poll_interval_ms=20, extra_body=extra, **fields)


def test_create_and_poll_gives_a_video_with_the_models_own_size_and_length(client):
    video = make(client)
    assert (video.status, video.progress, video.size, video.seconds) == ("completed", 100, "64x64", "2")
    assert video.object == "video" and video.prompt == PROMPT and video.model == "synthetic@1"
    assert abs(video.created_at - time.time()) < 60 and video.completed_at >= video.created_at
    extra = video.model_extra
    assert extra["usage"]["cache"] == "miss" and extra["model_version"] == "synthetic" and not extra["cancelled"]


def test_content_is_the_mp4_whole_and_streamed(client):
    video = make(client)
    mp4 = client.videos.download_content(video.id).read()
    assert decode_mp4(mp4).ndim == 4
    with client.videos.with_streaming_response.download_content(video.id) as response:
        assert b"".join(response.iter_bytes(777)) == mp4
        assert response.headers["etag"] == f'"{hashlib.sha256(mp4).hexdigest()}"'


def test_thumbnail_and_spritesheet_are_pictures(client):
    video = make(client)
    frames, height, width, _ = decode_mp4(client.videos.download_content(video.id).read()).shape
    thumbnail = Image.open(io.BytesIO(client.videos.download_content(video.id, variant="thumbnail").read()))
    sheet = Image.open(io.BytesIO(client.videos.download_content(video.id, variant="spritesheet").read()))
    assert (thumbnail.format, thumbnail.size) == ("WEBP", (width, height))
    assert (sheet.format, sheet.size) == ("JPEG", (4 * (width + 2) - 2, -(-frames // 4) * (height + 2) - 2))


def test_our_own_fields_go_through_extra_body(client):
    extra = {"seed": 7, "guidance_scale": 1.5, "negative_prompt": "blue", "metadata": {"who": "me"}, "fps": 4}
    video = make(client, size="64x64", seconds="4", model="synthetic", extra_body=extra)
    parameters = video.model_extra["parameters"]
    assert {name: parameters[name] for name in ("seed", "guidance_scale", "negative_prompt", "fps")} == {
        name: extra[name] for name in ("seed", "guidance_scale", "negative_prompt", "fps")
    }
    assert parameters["num_inference_steps"] == 3 and video.model_extra["metadata"] == {"who": "me"}
    assert video.seconds == "4"


def test_a_mistyped_field_of_ours_is_told_and_others_are_ignored(client):
    video = client.videos.create(prompt=PROMPT, extra_body={"num_inference_step": 3, "quality": "high"})
    first, second = video.model_extra["warnings"]
    assert "num_inference_step" in first and "did you mean num_inference_steps?" in first and "quality" in second


@pytest.mark.parametrize(
    ("fields", "param", "told"),
    [
        ({"size": "720x1280"}, "size", "64x64"),
        ({"seconds": "12"}, "seconds", "2 at 8 frames a second"),
        ({"seconds": "soon"}, "seconds", "a number of seconds"),
        ({"prompt": " "}, "prompt", "not empty"),
        ({"prompt": "x" * 5000}, "prompt", "at most"),
        ({"extra_body": {"seed": "many"}}, "seed", "a whole number"),
        ({"extra_body": {"guidance_scale": 1e9}}, "guidance_scale", "a number from"),
        ({"extra_body": {"webhook_url": "https://10.0.0.1/x"}}, "webhook_url", "public addresses"),
    ],
)
def test_what_a_model_cannot_do_is_a_bad_request_that_lists_what_it_can(client, fields, param, told):
    with pytest.raises(openai.BadRequestError) as refused:
        client.videos.create(**({"prompt": PROMPT} | fields))
    assert refused.value.param == param and told in refused.value.body["message"]


def test_a_model_that_is_not_served_is_not_found(client):
    with pytest.raises(openai.NotFoundError) as refused:
        client.videos.create(prompt=PROMPT, model="sora-2")
    assert refused.value.code == "model_not_found" and "synthetic" in refused.value.body["message"]


def test_references_edits_extensions_and_characters_are_capabilities_that_are_not_there(client):
    calls = [
        lambda: client.videos.create(prompt=PROMPT, input_reference=("a.png", b"png", "image/png")),
        lambda: client.videos.edit(prompt=PROMPT, video=("a.mp4", b"mp4", "video/mp4")),
        lambda: client.videos.extend(prompt=PROMPT, seconds="4", video=("a.mp4", b"mp4", "video/mp4")),
        lambda: client.videos.create_character(name="x", video=("a.mp4", b"mp4", "video/mp4")),
        lambda: client.videos.get_character("x"),
    ]
    for call in calls:
        with pytest.raises(openai.BadRequestError) as refused:
            call()
        assert refused.value.code == "unsupported_capability"


def test_lists_are_paged_in_both_orders():
    with running() as server, openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:
        made = [client.videos.create(prompt=PROMPT, extra_body=SHORT).id for _ in range(5)]
        assert [video.id for video in client.videos.list(limit=2, order="asc")] == made
        page = client.videos.list(limit=2)
        assert [video.id for video in page.data] == made[:2:-1] and page.has_more and page.last_id == made[3]
        assert page.model_extra["first_id"] == made[4]
        assert client.videos.list(after=made[0], order="desc").data == []
        for limit in (0, 101):
            with pytest.raises(openai.BadRequestError):
                client.videos.list(limit=limit)


def test_a_remix_keeps_seed_and_parameters(client):
    video = make(client, extra_body={"seed": 11, "guidance_scale": 1.5})
    remix = client.videos.remix(video.id, prompt="a blue ball moves left")
    assert remix.remixed_from_video_id == video.id and remix.prompt == "a blue ball moves left"
    assert remix.model_extra["parameters"] == video.model_extra["parameters"]


def test_what_was_deleted_is_gone(client):
    video = make(client)
    gone = client.videos.delete(video.id)
    assert (gone.id, gone.deleted, gone.object) == (video.id, True, "video.deleted")
    for call in (client.videos.retrieve, client.videos.delete, client.videos.download_content):
        with pytest.raises(openai.NotFoundError):
            call(video.id)


def test_content_of_what_is_not_done_is_not_found_and_says_why(client):
    video = client.videos.create(prompt=PROMPT)
    with pytest.raises(openai.NotFoundError) as refused:
        client.videos.download_content(video.id)
    assert refused.value.code == "video_not_ready"


def test_cancelled_is_failed_for_those_who_know_only_four_states(client):
    video = client.videos.create(prompt=PROMPT, extra_body={"num_inference_steps": 50})
    client.post(f"/videos/{video.id}/cancel", cast_to=object)
    video = client.videos.poll(video.id, poll_interval_ms=20)
    assert (video.status, video.error.code, video.model_extra["cancelled"]) == ("failed", "cancelled", True)
    with pytest.raises(openai.NotFoundError) as refused:
        client.videos.download_content(video.id)
    assert refused.value.code == "video_failed"


def test_one_idempotency_key_is_one_job(client):
    headers = {"Idempotency-Key": "order-7"}
    first, again = (client.videos.create(prompt=PROMPT, extra_headers=headers) for _ in range(2))
    assert first.id == again.id


def test_models_are_listed_with_what_they_can(client):
    (model,) = client.models.list().data
    assert model.id == "synthetic@1" and model.model_extra["limits"]["widths"] == [64]
    assert client.models.retrieve("synthetic").id == model.id
    with pytest.raises(openai.NotFoundError, match="synthetic@1"):
        client.models.retrieve("sora-2")


def test_keys_and_rates_raise_the_packages_own_errors():
    with running(limits=ServingLimits(key=RateLimit(per_second=0.01, burst=1))) as server:
        key, _ = server.keys.create("acme", {"user"})
        url = f"{server.url}/v1"
        with openai.OpenAI(base_url=url, api_key="vg_wrong", max_retries=0) as client:
            with pytest.raises(openai.AuthenticationError):
                client.videos.list()
        with openai.OpenAI(base_url=url, api_key=key, max_retries=0) as client:
            created = client.videos.with_raw_response.create(prompt=PROMPT)
            assert created.headers["x-ratelimit-remaining-requests"] == "0"
            with pytest.raises(openai.RateLimitError) as refused:
                client.videos.create(prompt=PROMPT)
            headers = refused.value.response.headers
            assert int(headers["retry-after"]) > 1 and headers["x-ratelimit-limit-requests"] == "1"
            assert client.videos.retrieve(created.parse().id).status in ("queued", "in_progress")
