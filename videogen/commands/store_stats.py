"""How the counts of a store look, to people and as plain values."""

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from videogen.store.stats import StoreStats


def as_plain(stats: "StoreStats") -> dict[str, Any]:
    """What `videogen store stats --json` prints."""
    return dataclasses.asdict(stats)


def print_stats(stats: "StoreStats") -> None:
    """The same as tables."""
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
    for what in stats.cut:
        console.print(f"cut short, so at least: {what}")


def _facts(stats: "StoreStats") -> list[tuple[str, str]]:
    backend, cache = stats.backend, stats.cache
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
        ("dead letters", f"{stats.dead_letters:,}"),
        ("videos", f"{stats.videos:,}, {stats.video_bytes:,} bytes"),
        ("champions", _counts(stats.champions)),
        ("records", _counts(backend.records or {})),
    ]
    if backend.missed is not None:
        found.append(("missed by the other", f"{backend.missed:,} records"))
    found += [("copy of", f"{replica.source}, {replica.lag_s:,.0f} s behind") for replica in stats.replicas]
    if cache is not None and cache.hits + cache.misses:
        found.append(("local cache", f"{cache.hits:,} hits, {cache.misses:,} misses, {cache.bytes:,} bytes held"))
    return found


def _counts(counts: Mapping[Any, Any]) -> str:
    texts = (f"{name} {count:,}" if isinstance(count, int) else f"{name} {count}" for name, count in counts.items())
    return ", ".join(texts) or "none"
