"""What gRPC tells of how a video was made, to who asked for it first and to who got it afterwards."""

import dataclasses

from tests.serving.in_process import CALLER, end_of, run, served
from videogen.client.wire import plain
from videogen.serving.engine.messages import Synthetic
from videogen.serving.grpc import wire
from videogen.store.backends.memory import MemoryRecordStore
from videogen.store.records import StoreLimits
from videogen.store.store import Store

WISH = {"prompt": "a red ring", "seed": 7}
OTHER = dataclasses.replace(CALLER, tenant="other")


def test_whose_request_a_video_was_made_for_is_told_to_them_alone():
    async def test() -> None:
        store = Store(MemoryRecordStore(), StoreLimits(share_between_tenants=True))
        async with served(store, Synthetic(fixed_s=0.005)) as service:
            current = service.versions.current
            assert current is not None
            service.versions.admit(dataclasses.replace(current, ungated=False))  # else nothing is shared
            first = await end_of(service, (await service.submit({**WISH, "deadline": 50.0}, CALLER)).id)
            second = await service.submit(WISH, OTHER)
            assert second.usage is not None and second.usage.cache == "hit"
            own, shared = (plain(wire.job(job).video.provenance) for job in (first, second))
            assert (own["request_id"], own["request"]["deadline"]) == (first.id, 50)
            assert "request_id" not in shared and "deadline" not in shared["request"]
            assert shared["fingerprint"] == own["fingerprint"] and shared["request"]["prompt"] == WISH["prompt"]

    run(test)
