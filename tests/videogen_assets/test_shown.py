"""What goes into Dagster's event log: small, typed, and readable by the UI."""

import os
import time

import dagster as dg
import pytest

from videogen.manifest import MANIFEST_NAME
from videogen_assets import shown


def test_a_table_types_its_columns_and_shows_a_gap_for_nothing() -> None:
    rows = [
        {"clip": 0, "right": True, "seconds": 1, "seen": "ring"},
        {"clip": 1, "right": False, "seconds": 0.5, "seen": None},
    ]
    value = shown.table(rows)
    assert [(c.name, c.type) for c in value.schema.columns] == [
        ("clip", "int"), ("right", "bool"), ("seconds", "float"), ("seen", "string"),
    ]  # fmt: skip
    assert value.records[1].data["seen"] == "–"


def test_a_long_table_is_cut_and_an_empty_one_is_a_table() -> None:
    assert len(shown.table([{"n": n} for n in range(1000)]).records) == shown.MOST_ROWS
    assert isinstance(shown.table([]), dg.TableMetadataValue)


def test_links_leave_out_what_has_no_address() -> None:
    assert set(shown.links({"mlflow": "http://x/", "nowhere": None})) == {"mlflow"}


@pytest.mark.parametrize(
    ("seconds", "words"), [(-3, "0 s"), (0.4, "0 s"), (59, "59 s"), (61, "1 min"), (10_900, "3 h"), (200_000, "2 d")]
)
def test_durations_are_for_people(seconds: float, words: str) -> None:
    assert shown.duration(seconds) == words


def test_the_age_of_an_artifact_is_its_manifests(tmp_path) -> None:
    manifest = tmp_path / MANIFEST_NAME
    manifest.write_text("{}")
    then = time.time() - 7200
    os.utime(manifest, (then, then))
    assert shown.age(tmp_path) == "2 h"
