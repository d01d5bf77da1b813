"""The store, as an asset or a sensor gets it."""

from dataclasses import replace
from typing import TYPE_CHECKING

import dagster as dg
from pydantic import Field, PrivateAttr

from videogen.opening import open_store
from videogen.settings import read_settings

if TYPE_CHECKING:
    from videogen.store.store import Store


class StoreResource(dg.ConfigurableResource):
    """Requests, generations, videos, batches and champions. Opened on first use, closed when the run or tick ends."""

    url: str | None = Field(
        default=None, description="The backend; by default VIDEOGEN_STORE_URL, or the embedded one in the home folder."
    )
    _store: "Store | None" = PrivateAttr(default=None)

    def store(self) -> "Store":
        """The library's store; the same one for the whole run."""
        if self._store is None:
            settings = read_settings()
            self._store = open_store(replace(settings, store_url=self.url or settings.store_url))
        return self._store

    def teardown_after_execution(self, context: dg.InitResourceContext) -> None:
        if self._store is not None:
            self._store.close()
            self._store = None
