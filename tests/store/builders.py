"""Requests and stores for tests, and what must hold of a store at any time."""

from collections.abc import Mapping
from pathlib import Path

from videogen.models.spec import ModelSpec
from videogen.requests import AcceptedRequest, Request, accept
from videogen.store.backends.memory import MemoryRecordStore
from videogen.store.records import Json, StoreLimits
from videogen.store.store import Store
from videogen.store.videos import Videos

SPEC = ModelSpec("videogen-tiny")
DIGEST = "d" * 64


class Clock:
    """Seconds that pass only when a test says so."""

    def __init__(self) -> None:
        self.seconds = 1_000_000.0

    def __call__(self) -> float:
        return self.seconds

    def pass_(self, seconds: float) -> None:
        self.seconds += seconds


def accepted(seed: int = 0, digest: str = DIGEST, **fields: object) -> AcceptedRequest:
    """A request for a video of its own for each seed."""
    request = Request(prompt="a red ball", seed=seed, **fields)
    return accept(request, SPEC, digest, label=f"videogen-tiny@{digest[0]}")


def memory_store(clock: Clock | None = None, limits: StoreLimits | None = None) -> Store:
    return Store(MemoryRecordStore(clock or Clock()), limits)


def open_embedded(folder: Path, limits: StoreLimits | None = None) -> Store:
    return Store.open(f"embedded:{folder}", limits)


def put_video(videos: Videos, generation: str, mp4: bytes, provenance: Mapping[str, Json] | None = None) -> str:
    """The digest of a video that is there, whoever waits for it."""
    return videos.show(videos.bring(mp4), generation, provenance or {}).digest


def drain_all(store: Store, holder: str = "drainer", rounds: int = 50) -> None:
    """Seals, claims and publishes until nothing waits, as the sensor and its runs would."""
    for _ in range(rounds):
        store.recover()
        by_version: dict[str, list[str]] = {}
        for record in store.waiting(limit=1000):
            by_version.setdefault(record.version_digest, []).append(record.id)
        for ids in by_version.values():
            store.seal_batch(ids, 60.0)
        open_batches = [batch for batch in store.batches() if batch.state in ("sealed", "running")]
        if not open_batches:
            return
        for batch in open_batches:
            while claims := store.claim(batch.id, holder, 60.0, limit=2):
                for claim in claims:
                    store.publish(claim, f"video of {claim.request.fingerprint}".encode(), {"holder": holder})
            if store.batch(batch.id).state == "running":
                store.finish_batch(batch.id, holder)
    raise AssertionError(f"something still waits after {rounds} rounds: {store.requests()}")
