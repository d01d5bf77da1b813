"""Drains a batch through a service, so that a test can end it: `python -m tests.handed_drain STORE BATCH ADDRESS`."""

import sys

from videogen.drain import drain
from videogen.remote import RemoteService
from videogen.store.store import Store


class Nobody:
    """Makes nothing: all is the service's."""

    def generate(self, requests, on_progress=None):
        raise AssertionError(f"{len(requests)} requests were not handed over")


def main(store_url: str, batch: str, address: str) -> None:
    with Store.open(store_url) as store:
        service = RemoteService(address)
        drain(store, batch, Nobody(), holder="the ended one", provenance={}, lease_s=2.0, service=service)


if __name__ == "__main__":
    main(*sys.argv[1:])
