"""What the sync and the async client share: channels, metadata, and when a call is repeated."""

from typing import Any

import grpc

from videogen.client import verbs
from videogen.client.errors import ServiceError, Unavailable, VideoFailed
from videogen.client.verbs import ATTEMPTS, Verb

DEFAULT = "127.0.0.1:50051"
TIMEOUT_S = 30.0
ADMIN_TIMEOUT_S = 1_800.0
"""For calls that load and warm a model."""
OPTIONS = (
    ("grpc.max_receive_message_length", 16 * 1024 * 1024),
    ("grpc.keepalive_time_ms", 60_000),  # finds out that a service is gone whose machine went without a word
    ("grpc.keepalive_timeout_ms", 20_000),
)


def open_channel(address: str, tls: bool) -> grpc.Channel:
    if tls:
        return grpc.secure_channel(address, grpc.ssl_channel_credentials(), OPTIONS)
    return grpc.insecure_channel(address, OPTIONS)


def open_async_channel(address: str, tls: bool) -> grpc.aio.Channel:
    if tls:
        return grpc.aio.secure_channel(address, grpc.ssl_channel_credentials(), OPTIONS)
    return grpc.aio.insecure_channel(address, OPTIONS)


def bearer(api_key: str | None) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {api_key}"),) if api_key else ()


def raise_unless_repeatable(error: ServiceError, verb: Verb[Any], attempt: int) -> None:
    """Raises `error`, unless nobody was found, the call may be repeated, and it was not often enough."""
    if not (isinstance(error, Unavailable) and verb.repeatable and attempt + 1 < ATTEMPTS):
        raise error


def next_key(error: Unavailable | VideoFailed, key: str, attempt: int, *, own: bool) -> str:
    """The idempotency key under which a video is asked for again. Raises `error` if it is not to be.

    A service that sees a connection break cancels what was asked over it. If the next attempt finds that, the video
    is asked for anew: under a key of the client's `own`, never under one that the caller chose.
    """
    was_cut_off = isinstance(error, VideoFailed) and error.code == "cancelled" and attempt > 0 and own
    if attempt + 1 >= ATTEMPTS or not (isinstance(error, Unavailable) or was_cut_off):
        raise error
    return verbs.key() if was_cut_off else key
