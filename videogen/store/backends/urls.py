"""What stands behind the `?` of a store's URL, none of it misspelt or given twice."""

from collections.abc import Collection
from urllib.parse import parse_qsl

from videogen.errors import InvalidStoreUrl


def url_options(url: str, allowed: Collection[str]) -> dict[str, str]:
    """Options by name. Raises InvalidStoreUrl for one that is not allowed, empty, or there twice."""
    found: dict[str, str] = {}
    for name, value in parse_qsl(url.partition("?")[2], keep_blank_values=True):
        if name not in allowed or name in found or not value:
            fault = "given twice" if name in found else "empty" if name in allowed else "unknown"
            raise InvalidStoreUrl(url, f"behind the ?, {' and '.join(sorted(allowed))}, each once; {name!r} is {fault}")
        found[name] = value
    return found
