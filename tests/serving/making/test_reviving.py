"""An engine process that was started again works although the store does not tell who waits."""

import threading

import pytest

from tests.serving.forking.changing import DEVICE, gated, kill_engine
from tests.serving.in_process import CALLER, run, served, until
from videogen.errors import RecordDamaged, StoreUnavailable
from videogen.serving.making import maker
from videogen.serving.making.in_hand import Making
from videogen.store.backends.memory import MemoryRecordStore
from videogen.store.store import Store


class Mute(Store):
    """Tells nobody who waits for a generation: it raises `error`, or without one says nothing until `speaks` is set."""

    error: Exception | None = None
    is_mute = False

    def __init__(self, *given, **how):
        super().__init__(*given, **how)
        self.speaks = threading.Event()

    def awaiting(self, generation):
        if self.is_mute:
            if self.error is not None:
                raise self.error
            assert self.speaks.wait(60)
        return super().awaiting(generation)


@pytest.mark.parametrize("error", [None, StoreUnavailable("it is away"), RecordDamaged("it is damaged")])
def test_it_begins_although_the_store_does_not_tell_who_waits(monkeypatch, caplog, error):
    monkeypatch.setattr(maker, "LOOK_S", 1.0)
    store = Mute(MemoryRecordStore())
    store.error = error

    async def scenario():
        async with served(store, DEVICE, Making(restart_s=(0.05, 1.0))) as service:
            gated(service)
            service.work.engine.pause()
            wish = {"prompt": "a red ring", "num_inference_steps": 30}
            _, job = [await service.submit({**wish, "seed": seed}, CALLER) for seed in range(2)]
            await until(lambda: len(service.work.in_hand) == 2)
            store.is_mute = True
            try:
                kill_engine(service)
                await until(lambda: service.maker.reviver.restarts == 1 and service.work.down is None)
                await until(lambda: (held := service.work.held(job.id)) is not None and held.progress > 0)
            finally:
                store.is_mute = False
                store.speaks.set()
        [told] = [one.getMessage() for one in caplog.records if "who waits" in one.getMessage()]
        assert told.endswith(str(error) if error else "no answer within 1 s")

    run(scenario)
