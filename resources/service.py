"""The inference service that may answer batches in place of a run."""

from typing import TYPE_CHECKING

import dagster as dg
from pydantic import Field

from videogen.opening import require
from videogen.settings import read_settings

if TYPE_CHECKING:
    from videogen.remote import RemoteService


class ServiceResource(dg.ConfigurableResource):
    """A `videogen serve` on the same store, if runs are to hand it their batches. It may be away."""

    address: str | None = Field(
        default=None, description="HOST:PORT of its gRPC; by default VIDEOGEN_SERVICE_URL, or none."
    )

    def service(self) -> "RemoteService | None":
        """None where no service was named."""
        settings = read_settings()
        address = self.address or settings.service_url
        if address is None:
            return None
        require("google.rpc", "client")
        from videogen.remote import RemoteService

        return RemoteService(address, settings.service_api_key)
