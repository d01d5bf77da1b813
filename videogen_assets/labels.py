"""Partition keys of model versions: labels, `videogen-tiny@3`."""

import dagster as dg


def parse_label(label: str) -> tuple[str, int]:
    """`videogen-tiny@3` -> ("videogen-tiny", 3). Raises dg.Failure for a partition key that is no label."""
    name, at, number = label.rpartition("@")
    if not (name and at and number.isascii() and number.isdecimal()):
        raise dg.Failure(f"partition {label!r}: expected name@number, such as videogen-tiny@3", allow_retries=False)
    return name, int(number)
