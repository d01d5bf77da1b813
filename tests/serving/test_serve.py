"""The service as its users have it: a process that answers over real sockets, and ends well."""

import time
from pathlib import Path

import httpx
import openai
import pytest

from tests.fixtures.servers import redis_server
from tests.serving.running import serving
from videogen.client.sync import Client

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:The Sora API")]


def test_a_video_over_the_openai_package_and_another_over_grpc(tmp_path):
    redis = redis_server(tmp_path, "--maxmemory-policy", "noeviction")
    with redis as (url, _), serving(tmp_path / "home", url) as one:
        client = openai.OpenAI(base_url=f"{one.url}/v1", api_key="none")
        made = client.videos.create_and_poll(prompt="a red ring", poll_interval_ms=50, extra_body={"seed": 7})
        assert made.status == "completed" and made.progress == 100
        content = client.videos.download_content(made.id).read()
        assert content[4:8] == b"ftyp"
        mixed = client.videos.remix(made.id, prompt="a blue star")
        assert one.end_of(mixed.id)["parameters"]["seed"] == 7
        assert [video.id for video in client.videos.list(limit=5).data] == [mixed.id, made.id]
        client.videos.delete(made.id)
        with pytest.raises(openai.NotFoundError):
            client.videos.retrieve(made.id)
        with Client(f"127.0.0.1:{one.grpc}") as grpc:
            assert grpc.generate("a blue star", seed=7).job.progress == 1.0


def test_what_nobody_wants_ends_and_a_deadline_that_cannot_be_met_is_told(tmp_path):
    with redis_server(tmp_path) as (url, _), serving(tmp_path / "home", url) as one:
        first = one.submit("a red ring", num_inference_steps=40)
        ended = one.ask(f"/v1/videos/{first}/cancel", {}, "POST")
        assert ended["status"] == "failed" and ended["error"]["code"] == "cancelled"
        assert one.end_of(one.submit("a red ring", seed=1))["status"] == "completed"
        late = one.ask("/v1/videos", {"prompt": "a red ring", "deadline": 0.001})
        assert late["error"]["code"] == "overloaded", late


def test_sigterm_finishes_what_is_in_hand_and_ends_well(tmp_path):
    with redis_server(tmp_path) as (url, _):
        with serving(tmp_path / "home", url) as one:
            ids = [one.submit("a red ring", seed=number) for number in range(4)]
            one.process.terminate()
            assert one.process.wait(40) == 0, one.log.read_text()
        with serving(tmp_path / "home", url, name="after") as after:
            start = time.monotonic()
            assert {after.end_of(video_id)["status"] for video_id in ids} == {"completed"}
            assert time.monotonic() - start < 30


def test_sigterm_ends_it_although_somebody_watches_what_it_hands_back(tmp_path):
    with redis_server(tmp_path) as (url, _), serving(tmp_path / "home", url, "--grace", "0.1") as one:
        jobs = [one.submit("a red ring", seed=number, num_inference_steps=50) for number in range(40)]
        with httpx.stream("GET", f"{one.url}/v1/videos/{jobs[-1]}/events", timeout=60) as events:
            lines = events.iter_lines()
            assert next(lines).startswith("event: video.")
            one.process.terminate()
            assert one.process.wait(40) == 0, one.log.read_text()


def test_usage_tells_what_a_video_cost_by_the_price_of_the_device(tmp_path):
    with (
        redis_server(tmp_path) as (url, _),
        serving(tmp_path / "home", url, VIDEOGEN_PRICE_PER_HOUR="7200") as one,
        Client(f"127.0.0.1:{one.grpc}") as grpc,
    ):
        usage = one.end_of(one.submit("a red ring", seed=1))["usage"]
        assert usage["gpu_seconds"] > 0 and usage["cost_usd"] == pytest.approx(2 * usage["gpu_seconds"], abs=1e-5)
        told = grpc.generate("a blue star", seed=2).job.usage
        assert told is not None and told.cost_usd == pytest.approx(2 * told.gpu_seconds) and told.cost_usd > 0


def test_the_engine_process_is_left_the_device_that_was_asked_for(tmp_path):
    with serving(tmp_path / "home", None, "--device", "cpu", CUDA_VISIBLE_DEVICES="7") as one:
        environment = Path(f"/proc/{one.engine()}/environ").read_bytes().split(b"\0")
        assert b"CUDA_VISIBLE_DEVICES=" in environment
