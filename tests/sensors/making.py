"""Accepted requests and a store that dies at a chosen write."""

from collections.abc import Sequence
from pathlib import Path

from videogen.models.spec import ModelSpec
from videogen.requests import AcceptedRequest, Request, accept
from videogen.store.backends.embedded import EmbeddedRecordStore
from videogen.store.primitives import Record, Write
from videogen.store.store import Store

SPEC = ModelSpec("tiny", "wan", 64, 64, 16, 8, 20, 2.5, 20, (64,), (64,), (16,), 50, 10.0)


def accepted(seed: int, version: str = "d1", **fields) -> AcceptedRequest:
    request = Request(model="tiny@champion", prompt="a small red circle", seed=seed, **fields)
    return accept(request, SPEC, version, label=f"tiny@{version[1:]}")


def submit(store: Store, count: int, version: str = "d1", start: int = 0, **fields) -> list[str]:
    return [store.submit(accepted(start + seed, version, **fields), "test").id for seed in range(count)]


class Killed(BaseException):
    """The process is gone: nothing catches this."""


class DyingRecords(EmbeddedRecordStore):
    """A real embedded store in whose process the power fails before or after its n-th call that writes."""

    def __init__(self, folder: Path, die_at: int, after: bool) -> None:
        super().__init__(folder)
        self.die_at, self.after, self.calls = die_at, after, 0

    def write_many(self, writes: Sequence[Write]) -> list[Record | None]:
        self.calls += 1
        if self.calls == self.die_at and not self.after:
            raise Killed
        done = super().write_many(writes)
        if self.calls == self.die_at:
            raise Killed
        return done
