"""The claimer looks at the queue again for what came while it looked."""

import asyncio

from tests.store.builders import DIGEST, accepted, memory_store
from videogen.serving.claiming import Claimer
from videogen.serving.in_hand import Making


def test_what_is_queued_while_the_queue_is_looked_at_is_claimed_at_once():
    store, claimed = memory_store(), asyncio.Event()
    request = accepted(lane="interactive")

    async def call(work):
        found = work()
        if not found and not claimed.is_set():
            store.submit(request)
            claimer.wake()
        return found

    def take(claims):
        if [claim.request.id for claim in claims] == [request.id]:
            claimed.set()

    claimer = Claimer(store, call, "me", Making(poll_s=(3600.0, 3600.0)))

    async def run():
        looking = asyncio.ensure_future(claimer.run(lambda: 8, lambda: [DIGEST], take))
        await asyncio.wait_for(claimed.wait(), 30.0)
        looking.cancel()

    asyncio.run(run())
