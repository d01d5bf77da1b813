"""The gRPC face under load: `Generate`, its stream read to the end, never asked twice."""

from collections.abc import Mapping
from contextlib import suppress
from itertools import cycle
from typing import Any

import grpc  # noqa: TID253 - imported where --face grpc asks for it

from videogen.client import verbs, wire
from videogen.client.channels import OPTIONS, bearer
from videogen.client.errors import Overloaded, ServiceError, VideoFailed, from_rpc
from videogen.errors import InvalidRequest, ServiceAway
from videogen.loads.answers import Answer, is_mp4, refused
from videogen.loads.http import HINT

CHANNELS = 4
"""Connections: the service lets a client have 256 calls on each, and what is beyond waits unseen."""
CHECK_S = 10.0


class Grpc:
    """Connections to the service at `address`, a host and a port. Raises InvalidRequest for another scheme."""

    def __init__(self, address: str, api_key: str | None = None) -> None:
        scheme, found, rest = address.partition("://")
        if found and scheme != "grpc":
            raise InvalidRequest("URL", address, "HOST:PORT for --face grpc, such as 127.0.0.1:50051")
        self._address, self._metadata = rest if found else address, bearer(api_key)
        options = (*OPTIONS, ("grpc.use_local_subchannel_pool", 1))
        self._channels = [grpc.aio.insecure_channel(self._address, options) for _ in range(CHANNELS)]
        self._methods = [verbs.methods(channel) for channel in self._channels]
        self._next = cycle(self._methods)

    async def check(self) -> None:
        verb = verbs.models()
        for methods in self._methods:
            try:
                await methods[verb.method](verb.request, metadata=self._metadata, timeout=CHECK_S)
            except grpc.RpcError as error:
                raise ServiceAway(f"{self._address} does not answer: {from_rpc(error)}; {HINT}") from error

    async def generate(self, fields: Mapping[str, Any]) -> Answer:
        prompt = fields["prompt"]
        verb = verbs.generate(prompt, {name: value for name, value in fields.items() if name != "prompt"}, "")
        call = next(self._next)[verb.method](verb.request, metadata=self._metadata)
        chunks: list[bytes] = []
        try:
            async for message in call:
                part = message.WhichOneof("part")
                if part == "chunk":
                    chunks.append(message.chunk)
                elif part == "finished":
                    video = wire.video(message.finished, chunks)
                    return Answer("answered") if is_mp4(video.data) else Answer("failed", "not an MP4")
        except grpc.RpcError as error:
            return _judged(from_rpc(error))
        except (ServiceError, VideoFailed) as error:
            return Answer("failed", f"{error.code}: {error}")
        finally:
            call.cancel()
        return Answer("failed", "the stream ended before the video did")

    async def close(self) -> None:
        for channel in self._channels:
            with suppress(grpc.RpcError):
                await channel.close()


def _judged(error: ServiceError) -> Answer:
    if isinstance(error, Overloaded):
        return refused(error.reason or error.code, str(error), says_when=error.retry_after_s is not None)
    return Answer("failed", f"{error.code}: {error}")
