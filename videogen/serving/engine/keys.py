"""Which jobs may take a step together, and what such a step costs."""

from collections.abc import Hashable

from videogen.requests import AcceptedRequest, batch_key
from videogen.scheduling.costs import Table
from videogen.serving.engine.versions import Version


class Keys:
    """Batch keys by what asks for them; `tables` has the costs of each until its version goes."""

    def __init__(self) -> None:
        self.tables: dict[Hashable, Table] = {}
        self._of: dict[str, set[Hashable]] = {}

    def of(self, version: Version, accepted: AcceptedRequest, step: int) -> Hashable:
        """What goes together with a request at a step."""
        frames, height, width, _, guided = batch_key(accepted, step)
        key = (version.digest, frames, height, width, guided, accepted.request.adapters)
        self.tables.setdefault(key, version.tables[bool(guided)])
        self._of.setdefault(version.digest, set()).add(key)
        return key

    def forget(self, digest: str) -> set[Hashable]:
        """A version's, which were in use."""
        keys = self._of.pop(digest, set())
        for key in keys:
            del self.tables[key]
        return keys
