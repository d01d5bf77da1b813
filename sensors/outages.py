"""While the store does not answer: a sensor says so, and since when, and its cursor stays as it was for the next tick.

The time stands in a line of its own behind the sensor's cursor, so that it outlives the process.
"""

from datetime import UTC, datetime

import dagster as dg

from videogen.errors import StoreUnavailable

_SINCE = "\nthe store does not answer since "


def own_cursor(text: str | None) -> str | None:
    """The sensor's own part of a cursor."""
    return text.partition(_SINCE)[0] if text else text


def away_since(text: str | None) -> str | None:
    """When the outage began during which a cursor was kept, None if there was none."""
    return (text or "").partition(_SINCE)[2] or None


def keeps(text: str | None, error: StoreUnavailable) -> dg.SensorResult:
    """Nothing is started, nothing forgotten: the cursor, and what to tell."""
    since = away_since(text) or datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    reason = f"The store does not answer since {since}: {error}. This sensor goes on where it is when it does."
    return dg.SensorResult(skip_reason=reason, cursor=f"{own_cursor(text) or ''}{_SINCE}{since}")
