"""What the settings make of a replica's engine process."""

import asyncio

import pytest

from videogen.devices import Device, cpu
from videogen.serving import assembly
from videogen.serving.assembly import Serving, assembled
from videogen.settings import read_settings
from videogen.warming import BATCHES


@pytest.mark.parametrize("threads", [1, 2])
def test_the_engine_process_has_as_many_streams_as_it_may_use_threads(tmp_path, monkeypatch, threads):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")

    async def streams() -> int:
        with assembled(settings, Serving(ungated=True)) as core:
            engine = core.maker.engine
            await engine.start()
            try:
                assert engine.ready is not None
                return engine.ready.streams
            finally:
                await engine.stop(0.0)

    settings = read_settings({"VIDEOGEN_HOME": str(tmp_path), "VIDEOGEN_THREADS": str(threads)})
    assert asyncio.run(streams()) == threads


@pytest.mark.parametrize("device", [cpu(), Device("nvidia", "GPU-a", "H200", "sm_90")], ids=["cpu", "gpu"])
def test_no_batch_serves_that_is_larger_than_what_was_compared(tmp_path, monkeypatch, device):
    monkeypatch.setattr(assembly, "find_devices", lambda: [device])
    with assembled(read_settings({"VIDEOGEN_HOME": str(tmp_path)}), Serving(ungated=True)) as core:
        assert core.maker.engine.config.batch_max == max(BATCHES)
