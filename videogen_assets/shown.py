"""How results look in the Dagster UI: charts, tables, links, ages; out of plain values.

Dagster keeps every byte of metadata about five times and never prunes it: what is large stays in the artifacts.
"""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import dagster as dg

from videogen.manifest import MANIFEST_NAME

MOST_ROWS = 200

Cell = str | int | float | bool | None
Metadata = dict[str, dg.MetadataValue | str | int | float]


def chart(svg: str, alt: str) -> dg.MarkdownMetadataValue:
    """An SVG chart."""
    from videogen.media.webp import data_uri_markdown

    return dg.MetadataValue.md(data_uri_markdown(svg.encode(), "image/svg+xml", alt))


def table(rows: Sequence[Mapping[str, Cell]]) -> dg.TableMetadataValue:
    """Rows that all have the columns of the first; more than 200 are cut."""
    columns = [dg.TableColumn(name, _kind([row[name] for row in rows])) for name in (rows[0] if rows else {})]
    records = [dg.TableRecord({name: _cell(value) for name, value in row.items()}) for row in rows[:MOST_ROWS]]
    return dg.MetadataValue.table(records, dg.TableSchema(columns))


def links(urls: Mapping[str, str | None]) -> dict[str, dg.UrlMetadataValue]:
    """Those of `urls` that lead somewhere a browser can go."""
    return {name: dg.MetadataValue.url(url) for name, url in urls.items() if url}


def age(artifact: Path) -> str:
    """How long ago an artifact was made, for people."""
    return duration(time.time() - (artifact / MANIFEST_NAME).stat().st_mtime)


def duration(seconds: float) -> str:
    """`seconds` in the largest unit that leaves at least one: "3 h"."""
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"


def _cell(value: Cell) -> str | int | float | bool:
    if isinstance(value, float):
        return float(f"{value:.4g}")  # for people: what is plotted is not in tables
    return "–" if value is None else value


def _kind(values: Sequence[Cell]) -> str:
    kinds = {type(value) for value in values}
    for kind, name in ((bool, "bool"), (int, "int")):
        if kinds == {kind}:
            return name
    return "float" if kinds and kinds <= {int, float} else "string"
