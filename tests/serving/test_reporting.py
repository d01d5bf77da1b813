"""What observers hear of the engine's own messages."""

import time

import pytest

from tests.store.builders import accepted
from videogen.serving.engine.messages import Stats
from videogen.serving.telemetry.observing import Observer
from videogen.serving.telemetry.reporting import EngineReport, ended
from videogen.serving.views import accepted_at


class Heard(Observer):
    def __init__(self):
        self.steps, self.loads = [], []

    def stepped(self, batch, calls, seconds):
        self.steps.append((batch, calls, seconds))

    def loaded(self, load):
        self.loads.append(load)


def stats(batches, step_seconds: float | None = 0.05, held_s: float = 0.0) -> Stats:
    return Stats(
        waiting=3,
        running=4,
        work_s=1.5,
        busy_share=[0.5, 0.75],
        step_seconds=step_seconds,
        batches=batches,
        held_s=held_s,
        expected_per_s=0.0,
        memory_bytes=1,
        stages={},
        decision_s=0.0,
        call_age_s=0.0,
        paused=False,
        yielded=False,
        versions=[],
    )


def test_calls_are_told_once_also_over_a_restart():
    heard = Heard()
    report = EngineReport(heard)
    report.heard(stats({1: 2, 4: 10}, held_s=0.5), ["batch", "batch", "interactive"], True)
    report.heard(stats({1: 2, 4: 15}, held_s=0.75), [], True)
    report.heard(stats({4: 15}, None, 0.125), [], False)  # another process, which has made 15 calls of 4 as well
    assert heard.steps == [(1, 2, 0.05), (4, 10, 0.05), (4, 5, 0.05), (4, 15, 0.0)]
    assert [load.held_s for load in heard.loads] == [0.5, 0.25, 0.125]
    first, *_, last = heard.loads
    assert first.waiting == {"batch": 2, "interactive": 1} and first.busy == (0.5, 0.75) and first.ready
    assert (first.running, first.work_s) == (4, 1.5) and not last.ready


def test_a_jobs_way_is_told_in_order_and_joins_its_trace():
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    one = accepted(1)
    request = one.request.model_copy(update={"metadata": {"traceparent": parent}, "priority": "batch"})
    one = one.model_copy(update={"request": request})
    began = accepted_at(one.id)
    assert began == pytest.approx(time.time(), abs=60)
    facts = {
        "seconds": {"text": 0.01, "denoise": 0.2, "decode": 0.03, "mp4": 0.02},
        "batches": {"2": 3, "4": 1},
        "device_seconds": 0.24,
    }
    times = {"taken_at": began + 0.5, "first_step_at": began + 0.8, "finished_at": began + 1.5}
    found = ended(one, "completed", began + 1.6, facts=facts, run_id="run-1", **times)
    assert [stage.name for stage in found.stages] == ["queue", "text", "step", "decode", "mp4", "publish"]
    for before, after in zip(found.stages, found.stages[1:], strict=False):
        assert before.start + before.seconds == pytest.approx(after.start)
    assert found.stages[0].start == began and found.stages[-1].seconds == pytest.approx(0.1)
    assert (found.stages[2].steps, found.stages[2].batches) == (4, (2, 4))
    assert (found.gpu_seconds, found.priority, found.traceparent, found.run_id) == (0.24, "batch", parent, "run-1")
    assert found.first_step_s == pytest.approx(0.8)


def test_what_the_cache_answered_has_no_stages():
    one = accepted(1)
    found = ended(one, "completed", accepted_at(one.id) + 0.01)
    assert found.stages == () and found.gpu_seconds == 0 and found.first_step_s is None and found.traceparent is None
