"""Partition keys of model versions: labels, `videogen-tiny@3`."""

import dagster as dg

from videogen import labels
from videogen.errors import InvalidRequest


def parse_label(label: str) -> tuple[str, int]:
    """`videogen-tiny@3` -> ("videogen-tiny", 3). Raises dg.Failure for a partition key that is no label."""
    try:
        return labels.parse_label(label)
    except InvalidRequest as error:
        raise dg.Failure(f"partition {label!r}: {error}", allow_retries=False) from error
