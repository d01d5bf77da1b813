"""A client's own key for a request: sent twice, it is one request.

The key's record is written before the request it names, under a condition that only the first of any number of
processes meets; whoever comes later goes on with the same request id, whatever died in between.
"""

import hashlib
from dataclasses import dataclass

from videogen.errors import InvalidRequest
from videogen.requests import AcceptedRequest
from videogen.store.primitives import RecordStore, Set, Write

LONGEST_KEY = 255


@dataclass(frozen=True, slots=True)
class Idempotency:
    """`key` is the client's, `body` the digest of what it sent: a seed that was drawn is not in it.

    Raises InvalidRequest for a key of no or of too many characters.
    """

    key: str
    body: str

    def __post_init__(self) -> None:
        if not 0 < len(self.key) <= LONGEST_KEY:
            raise InvalidRequest("idempotency_key", self.key[:40], f"1 to {LONGEST_KEY} characters")


class IdempotencyKeys:
    """Keys by tenant, for `keep` seconds."""

    kind = "idempotency"

    def __init__(self, records: RecordStore, keep: float) -> None:
        self.records, self.keep = records, keep

    def first(self, accepted: AcceptedRequest, given: Idempotency) -> AcceptedRequest:
        """The request under the id that the key stands for: this one's, if it is the first. Durable once that is.

        Raises InvalidRequest if the key was sent with another request before.
        """
        name = _name(accepted.request.tenant, given)
        bins = (Set("request", accepted.id), Set("body", given.body))
        if self.records.write(Write(self.kind, name, bins, create="only", ttl=self.keep)) is not None:
            return accepted
        found = self.find(accepted.request.tenant, given)
        return accepted if found is None else accepted.model_copy(update={"id": found})  # None: it expired meanwhile

    def find(self, tenant: str, given: Idempotency) -> str | None:
        """The id that the key stands for, None if it was not sent before. Raises InvalidRequest as `first`."""
        record = self.records.read(self.kind, _name(tenant, given))
        if record is None:
            return None
        if record.text("body") != given.body:
            raise InvalidRequest("idempotency_key", given.key, "a key that was not sent with another request before")
        return record.text("request")


def _name(tenant: str, given: Idempotency) -> str:
    digest = hashlib.sha256(given.key.encode(errors="surrogatepass")).hexdigest()
    return f"{tenant}.{digest}"
