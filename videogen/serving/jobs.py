"""What the service's core hands to its faces: callers and what they see of their jobs."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls: `key_id` is None where no key was needed."""

    tenant: str
    key_id: str | None
    scopes: frozenset[Literal["user", "admin"]]
