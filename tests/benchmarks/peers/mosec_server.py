"""mosec: one batching worker, or one for short videos and one for long ones. Run by mosec's own Python."""

import json
from typing import Any

from mosec import Runtime, Server, Worker

from tests.benchmarks.peers.device import device, settings


class Videos(Worker):
    """A batch of wishes in, their MP4s out."""

    resp_mime_type = "video/mp4"

    def __init__(self) -> None:
        super().__init__()
        self._told = settings()
        self._device = device(self._told)

    def deserialize(self, data: bytes) -> Any:
        return json.loads(data)

    def serialize(self, data: bytes) -> bytes:
        return data

    def forward(self, data: Any) -> Any:
        wishes = data if self._told["batch"] > 1 else [data]
        videos = self._device.make([(one["prompt"], one["seed"], one["steps"]) for one in wishes])
        return videos if self._told["batch"] > 1 else videos[0]


class LongVideos(Videos):
    """The second worker, which mosec tells from the first by its class."""


def main() -> None:
    told, server = settings(), Server()
    batching = {"num": told["workers"], "max_batch_size": told["batch"], "max_wait_time": told["wait_ms"]}
    if told["layout"] == "split":
        server.register_runtime({"/short": [Runtime(Videos, **batching)], "/long": [Runtime(LongVideos, **batching)]})
    else:
        server.append_worker(Videos, **batching)
    server.run()


if __name__ == "__main__":
    main()
