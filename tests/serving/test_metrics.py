"""What a scrape shows, read back by Prometheus's own parser."""

import re
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from videogen.serving.telemetry.metrics import MOST_MODELS, ServiceMetrics
from videogen.serving.telemetry.observing import Ended, Load, Observers, Stage, Submitted
from videogen.store.metrics import OTHERS, StoreMetrics
from videogen.store.store import Store

STAGES = (
    Stage("queue", 100.0, 0.3),
    Stage("text", 100.3, 0.01),
    Stage("step", 100.31, 0.2, steps=4, batches=(2, 2, 4, 4)),
    Stage("decode", 100.51, 0.04),
    Stage("mp4", 100.55, 0.02),
    Stage("publish", 100.57, 0.01),
)


def ended(model="videogen-tiny@1", outcome="completed", **facts) -> Ended:
    times = {"accepted_at": 100.0, "ended_at": 100.6, "first_step_s": 0.35, "gpu_seconds": 0.05, "stages": STAGES}
    return Ended("job-1", "acme", model, "interactive", outcome, **{**times, **facts})


def submitted(model="videogen-tiny@1", cache="miss") -> Submitted:
    return Submitted("job-1", "acme", model, "interactive", cache)


@pytest.fixture
def store(tmp_path):
    with Store.open(f"embedded:{tmp_path / 'store'}") as store:
        yield store


@pytest.fixture
def seen(store):
    metrics = ServiceMetrics()

    def value(name: str, **labels: str) -> float | None:
        families = text_string_to_metric_families(metrics.exposition(store))
        samples = [one for family in families for one in family.samples if one.name == f"videogen_{name}"]
        found = [one.value for one in samples if labels.items() <= one.labels.items()]
        return sum(found) if found else None

    return Observers(metrics), value


def test_a_jobs_way_is_in_the_series(seen):
    tell, value = seen
    tell.submitted(submitted())
    tell.submitted(submitted(cache="hit"))
    tell.ended(ended())
    tell.ended(ended(outcome="failed", first_step_s=None, stages=()))
    assert value("jobs_total", cache="miss") == 1 and value("jobs_total", cache="hit") == 1
    assert value("jobs_total", cache="joined") == 0  # there before the first
    assert value("jobs_ended_total", outcome="completed", priority="interactive", model="videogen-tiny@1") == 1
    assert value("jobs_ended_total", outcome="failed") == 1
    assert value("job_seconds_sum") == pytest.approx(0.6) and value("job_seconds_count") == 1
    assert value("first_step_seconds_sum") == pytest.approx(0.35)
    assert value("gpu_seconds_total") == pytest.approx(0.1)
    for stage in STAGES:
        assert value("stage_seconds_sum", stage=stage.name) == pytest.approx(stage.seconds)


def test_the_engine_and_what_befalls_it_are_in_the_series(seen):
    tell, value = seen
    assert value("refusals_total", reason="rate_limited") == 0 and value("swaps_total", outcome="failed") == 0
    tell.refused("rate_limited")
    tell.refused("overloaded")
    tell.stepped(4, 3, 0.06)
    tell.claimed(3)
    tell.restarted()
    tell.swapped(True, 2.5, 0.125)
    tell.loaded(Load({"interactive": 2}, ready=True, held_s=0.25))
    load = Load({"interactive": 2, "batch": 7}, 4, 1.5, (0.75, 0.5), ready=True, held_s=0.5, expected_per_s=2.0)
    tell.loaded(load)
    assert value("refusals_total", reason="rate_limited") == 1
    assert (
        value("batch_size_sum") == 12 and value("batch_size_count") == 3 and value("batch_size_bucket", le="3.0") == 0
    )
    assert value("step_seconds_sum") == pytest.approx(0.18)
    assert (value("claims_total"), value("engine_restarts_total")) == (3, 1)
    assert (value("swap_seconds"), value("swap_longest_gap_seconds")) == (2.5, 0.125)
    assert (value("queue_jobs", priority="batch"), value("queue_jobs", priority="standard")) == (7, 0)
    assert (value("running_jobs"), value("queue_work_seconds"), value("ready")) == (4, 1.5, 1)
    assert value("device_busy_ratio", stream="1") == 0.5
    assert (value("held_seconds_total"), value("expected_jobs_per_second")) == (0.75, 2.0)


def test_models_are_bounded_and_tenants_are_no_label(store, seen):
    tell, value = seen
    for number in range(MOST_MODELS + 30):
        tell.submitted(submitted(f"videogen-tiny@{number}"))
        tell.ended(ended(f"videogen-tiny@{number}"))
    assert value("jobs_total", model=OTHERS) == 30 and value("jobs_total", model="videogen-tiny@0") == 1
    metrics = tell.observers[0]
    text = metrics.exposition(store)
    assert "acme" not in text and "job-1" not in text
    assert text.count("videogen_jobs_total{") == (MOST_MODELS + 1) * 9


def test_the_page_names_every_series():
    page = (Path(__file__).resolve().parents[2] / "docs" / "serving.md").read_text()
    listed = set(re.findall(r"`(videogen_[a-z_]+)`", page))
    families = [family for family in ServiceMetrics().registry.collect() if not family.name.endswith("_created")]
    assert listed == {f"{one.name}_total" if one.type == "counter" else one.name for one in families}


def test_the_stores_series_are_in_the_same_scrape_and_no_name_twice(tmp_path):
    from videogen.store.backends.catalog import open_records

    store_metrics = StoreMetrics()
    records = store_metrics.metered(open_records(f"embedded:{tmp_path / 'other'}"), "embedded")
    with Store(records) as store:
        text = ServiceMetrics(store_metrics).exposition(store)
    names = [family.name for family in text_string_to_metric_families(text)]
    assert len(names) == len(set(names))
    assert {"videogen_store_operation_seconds", "videogen_store_videos", "videogen_queue_jobs"} <= set(names)
