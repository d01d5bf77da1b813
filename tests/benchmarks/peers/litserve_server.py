"""LitServe: one batching API, or one for short videos and one for long ones. Run by LitServe's own Python."""

from typing import Any

import litserve
from fastapi import Response

from tests.benchmarks.peers.device import device, settings


class Videos(litserve.LitAPI):
    """A batch of wishes in, their MP4s out."""

    def setup(self, device: str) -> None:
        self._make = make_device().make

    def decode_request(self, request: dict[str, Any]) -> tuple[str, int, int]:
        return request["prompt"], request["seed"], request["steps"]

    def batch(self, inputs: list[Any]) -> list[Any]:
        return inputs

    def predict(self, x: Any) -> Any:
        return self._make(x) if settings()["batch"] > 1 else self._make([x])[0]

    def unbatch(self, output: list[bytes]) -> list[bytes]:
        return output

    def encode_response(self, output: bytes) -> Response:
        return Response(output, media_type="video/mp4")


def make_device() -> Any:
    return device(settings())


def main() -> None:
    told = settings()
    batching = {"max_batch_size": told["batch"], "batch_timeout": told["wait_ms"] / 1000}
    paths = ["/short", "/long"] if told["layout"] == "split" else ["/predict"]
    server = litserve.LitServer(
        [Videos(api_path=path, **batching) for path in paths],
        accelerator="cpu",
        workers_per_device=told["workers"],
        timeout=told["timeout_s"] or False,
        fast_queue=True,
    )
    server.run(host="127.0.0.1", port=told["port"], generate_client_file=False, log_level="warning")


if __name__ == "__main__":
    main()
