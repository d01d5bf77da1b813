"""A running inference service, as a drain that hands it leases sees it."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from videogen.client.errors import ServiceError, Unavailable
from videogen.client.results import Claim as Lease
from videogen.client.results import News
from videogen.client.sync import Client
from videogen.errors import ServiceAway
from videogen.store.records import Claim

REACH_S = 3.0
TOO_MANY, AGAIN_S = "OVERLOADED", 1.0
"""How a service says that too many calls wait for its store, and when it is asked once more."""


@dataclass(frozen=True, slots=True)
class RemoteService:
    """The one whose gRPC is at `address`. It has to stand on the store that the leases are of."""

    address: str
    api_key: str | None = field(default=None, repr=False)

    def __str__(self) -> str:
        return f"service {self.address}"

    def why_not(self, version_digest: str) -> str | None:
        """Why work of a model version cannot be handed over now, None if it can. It takes seconds at most."""
        try:
            with Client(self.address, api_key=self.api_key, timeout_s=REACH_S) as client:
                if not client.is_serving():
                    return "it is not ready"
                served = {model.version_digest: model for model in client.models()}
        except ServiceError as error:
            return f"it does not answer: {error}"
        if version_digest not in served:
            return f"it serves {', '.join(model.version for model in served.values()) or 'nothing'}"
        return "the version has passed no gates there" if served[version_digest].ungated else None

    def execute(self, claims: Sequence[Claim]) -> Iterator[News]:
        """Lets it make and publish the videos of leases that the caller keeps alive; closed, it takes them back.

        Raises ServiceAway, also where the service refuses.
        """
        leases = [
            Lease(claim.request.id, claim.generation, claim.token, claim.attempt, claim.holder, claim.lease_s)
            for claim in claims
        ]
        try:
            with Client(self.address, api_key=self.api_key) as client:
                try:
                    yield from client.execute(leases)
                except Unavailable as error:
                    if error.reason != TOO_MANY:
                        raise
                    time.sleep(AGAIN_S)
                    yield from client.execute(leases)
        except ServiceError as error:
            raise ServiceAway(f"{self}: {error}") from error
