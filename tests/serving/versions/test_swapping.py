"""What is told of a swap: to whoever asked for it, and to whoever measures."""

import time

from tests.serving.in_process import Heard, run, served
from tests.serving.versions.test_retrying import TWO, Files
from videogen.serving.engine.messages import Synthetic
from videogen.serving.versions.swapping import Swapper
from videogen.store.backends.memory import MemoryRecordStore
from videogen.store.records import Champion
from videogen.store.store import Store


class Slow(Heard):
    """Takes its time to note a swap."""

    def swapped(self, succeeded, seconds, longest_gap_s):
        self.swap = (succeeded, round(seconds, 3), round(longest_gap_s, 3))
        time.sleep(0.05)


def test_who_asked_for_a_swap_hears_what_is_measured_of_it():
    store, observer, files = Store(MemoryRecordStore()), Slow(), Files()
    files.there = True

    def following(maker):
        return Swapper(maker, "synthetic", files.prepare, lambda *_: True)

    async def scenario():
        device = Synthetic(fixed_s=0.005, each_s=0.0)
        async with served(store, device, observer=observer, following=following) as service:
            store.promote("synthetic", Champion(TWO, "synthetic@2"), 0)
            told = await service.admin.swapper.reload()
            assert (told["before"], told["serving"]) == ("synthetic@1", "synthetic@2")
            assert observer.swap == (True, told["seconds"], told["longest_gap_s"])

    run(scenario)
