"""How the counts of a store look, to people and as plain values."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from videogen.words import counted

if TYPE_CHECKING:
    from rich.table import Table

    from videogen.store.metrics import Calls
    from videogen.store.servers import Server
    from videogen.store.stats import StoreStats


def as_plain(stats: "StoreStats") -> dict[str, Any]:
    """What `videogen store stats --json` prints."""
    plain = dataclasses.asdict(stats)
    return plain | {"services": [one | {"versions": sorted(one["versions"])} for one in plain["services"]]}


def print_stats(stats: "StoreStats", calls: "Sequence[Calls]") -> None:
    """The same as tables, with the calls to the backend that it took."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console(highlight=False, soft_wrap=True)
    facts = Table.grid(padding=(0, 2))
    for name, text in _facts(stats):
        facts.add_row(name, escape(text))
    console.print(facts)
    if stats.requests:
        table = Table("lane", "state", "tenant", "requests", box=None, pad_edge=False)
        for one in stats.requests:
            table.add_row(one.lane, one.state, one.tenant, f"{one.requests:,}")
        console.print(table)
    if stats.services:
        console.print(_services(stats.services))
    console.print(_calls(calls))
    for what in stats.cut:
        console.print(f"cut short, so at least: {what}")


def _facts(stats: "StoreStats") -> list[tuple[str, str]]:
    backend = stats.backend
    used = [f"{backend.bytes_used:,} bytes used"] if backend.bytes_used is not None else []
    used += [f"of {backend.bytes_limit:,}"] if backend.bytes_limit is not None else []
    oldest = {lane: f"{age:,.0f} s" for lane, age in stats.oldest_waiting_s.items()}
    found = [
        ("store", ", ".join([backend.where, backend.version or "", " ".join(used)]).strip(", ")),
        ("live requests", _counts(stats.live)),
        ("oldest waiting", _counts(oldest)),
        ("open leases", f"{stats.open_leases:,}"),
        ("open batches", _counts(stats.batches)),
        ("latest ended", _counts(stats.ended)),
        ("answered by", _counts(stats.answers)),
        ("leases", f"{stats.claims:,} claimed, {stats.retries:,} retried, {stats.lease_expiries:,} expired"),
        ("dead letters", f"{stats.dead_letters:,}"),
        ("videos", f"{stats.videos:,}, {counted(stats.video_bytes, 'byte')}"),
        ("champions", _counts(stats.champions)),
    ]
    if backend.records:
        found.append(("records", _counts(backend.records)))
    if backend.missed is not None:
        found.append(("missed by the other", counted(backend.missed, "record")))
    found += [("copy of", f"{replica.source}, {replica.lag_s:,.0f} s behind") for replica in stats.replicas]
    return found


def _services(services: "Sequence[Server]") -> "Table":
    """What each tells of the videos in its memory."""
    from rich.table import Table

    head = ("service", "videos/s", "memory hits", "store hits", "misses", "evictions", "videos", "bytes")
    table = Table(*head, box=None, pad_edge=False)
    for one in services:
        cache = one.cache
        reads = (cache.hits, cache.loads, cache.misses - cache.loads) if cache else ()
        held = (cache.evictions, cache.videos, cache.bytes) if cache else ()
        table.add_row(one.name, f"{one.per_second:,.2f}", *(f"{count:,}" for count in (*reads, *held)))
    return table


def _calls(calls: "Sequence[Calls]") -> "Table":
    from rich.table import Table

    table = Table("calls of this command", "of", "number", "ms each", "errors", box=None, pad_edge=False)
    for one in calls:
        each = f"{1000 * one.seconds / one.calls:.2f}"
        table.add_row(one.operation, one.kind, f"{one.calls:,}", each, f"{one.errors:,}")
    return table


def _counts(counts: Mapping[Any, Any]) -> str:
    texts = (f"{name} {count:,}" if isinstance(count, int) else f"{name} {count}" for name, count in counts.items())
    return ", ".join(texts) or "none"
