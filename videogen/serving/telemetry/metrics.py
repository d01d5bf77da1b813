"""The service as Prometheus sees it. Labels are bounded: no tenant, key, job or prompt is ever one.

Rates, quantiles and ratios are for Prometheus to compute, such as the share of the last minute's repeats:
`rate(videogen_jobs_total{cache!="miss"}[1m]) / ignoring(cache) group_left sum(rate(videogen_jobs_total[1m]))`.
"""

from typing import get_args

from videogen.requests import Priority
from videogen.serving.jobs import CacheUse
from videogen.serving.telemetry.observing import Ended, Load, Observer, Outcome, Refusal, StageName, Submitted
from videogen.store.metrics import OTHERS, StoreMetrics
from videogen.store.store import Store

MOST_MODELS = 20
"""Versions with series of their own, the first that came; later ones are counted together, as `OTHERS`."""
PRIORITIES: tuple[Priority, ...] = get_args(Priority)
SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0)
STAGE_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
BATCHES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64)


class ServiceMetrics(Observer):
    """The series of one replica, in a registry of their own. The store's are in the same exposition."""

    def __init__(self, store_metrics: StoreMetrics | None = None) -> None:
        import prometheus_client as prometheus

        self.store_metrics = store_metrics or StoreMetrics()
        self.registry = registry = prometheus.CollectorRegistry()
        self._models: set[str] = set()
        self._started: set[str] = set()

        def counter(name: str, text: str, *labels: str) -> prometheus.Counter:
            return prometheus.Counter(f"videogen_{name}", text, labels, registry=registry)

        def gauge(name: str, text: str, *labels: str) -> prometheus.Gauge:
            return prometheus.Gauge(f"videogen_{name}", text, labels, registry=registry)

        def histogram(name: str, text: str, *labels: str, buckets: tuple[float, ...] = SECONDS) -> prometheus.Histogram:
            return prometheus.Histogram(f"videogen_{name}", text, labels, buckets=buckets, registry=registry)

        self.jobs = counter("jobs", "Jobs accepted, by how they are answered.", "model", "priority", "cache")
        self.refusals = counter("refusals", "Requests that were not accepted.", "reason")
        self.ends = counter("jobs_ended", "Jobs that ended.", "model", "priority", "outcome")
        self.seconds = histogram("job_seconds", "From acceptance to a video.", "model", "priority")
        self.first_step = histogram("first_step_seconds", "From acceptance to the first step's end.", "priority")
        self.stages = histogram("stage_seconds", "Time of a job in a stage.", "model", "stage", buckets=STAGE_SECONDS)
        self.step = histogram(
            "step_seconds", "Time of a denoiser call, on average over half a second.", buckets=STAGE_SECONDS
        )
        self.batch = histogram("batch_size", "Jobs in one denoiser call.", buckets=BATCHES)
        self.gpu_seconds = counter("gpu_seconds", "Time of a device that jobs used.", "model")
        self.claims = counter("claims", "Generations that this replica took a lease on.")
        self.waiting = gauge("queue_jobs", "Jobs that wait for a device.", "priority")
        self.running = gauge("running_jobs", "Jobs that a device works on.")
        self.work = gauge("queue_work_seconds", "Time that a device needs for what waits.")
        self.busy = gauge("device_busy_ratio", "Share of time that a stream of the device computes.", "stream")
        self.held = counter("held_seconds", "Time that batches were held open for more, the device idle.")
        self.expected = gauge("expected_jobs_per_second", "Arrivals at the device that are forecast.")
        self.ready = gauge("ready", "Takes requests, 1, or not, 0.")
        self.restarts = counter("engine_restarts", "Deaths of the engine's process that were followed by a new one.")
        self.swaps = counter("swaps", "Versions that took another's place, or failed to.", "outcome")
        self.swap_seconds = gauge("swap_seconds", "How long the last swap took.")
        self.swap_gap = gauge("swap_longest_gap_seconds", "Longest time without a step in the last swap.")
        for priority in PRIORITIES:  # series that are there from the start: a rate over their first event is right
            self.waiting.labels(priority).set(0)
        for why in get_args(Refusal):
            self.refusals.labels(why)
        for outcome in ("succeeded", "failed"):
            self.swaps.labels(outcome)

    def exposition(self, store: Store) -> str:
        """Everything in Prometheus's text format, with what the store holds and how long it took for what.

        It asks the store: call it in a thread.
        """
        from prometheus_client import generate_latest

        return generate_latest(self.registry).decode() + self.store_metrics.exposition(store)

    def submitted(self, job: Submitted) -> None:
        self._start(job.model)
        self.jobs.labels(self._model(job.model), job.priority, job.cache).inc()

    def refused(self, why: Refusal) -> None:
        self.refusals.labels(why).inc()

    def ended(self, job: Ended) -> None:
        model = self._model(job.model)
        self._start(job.model)
        self.ends.labels(model, job.priority, job.outcome).inc()
        self.gpu_seconds.labels(model).inc(max(0.0, job.gpu_seconds))
        if job.outcome == "completed":
            self.seconds.labels(model, job.priority).observe(max(0.0, job.ended_at - job.accepted_at))
        if job.first_step_s is not None:
            self.first_step.labels(job.priority).observe(job.first_step_s)
        for stage in job.stages:
            self.stages.labels(model, stage.name).observe(stage.seconds)

    def stepped(self, batch: int, calls: int, seconds: float) -> None:
        for _ in range(calls):
            self.step.observe(seconds)
            self.batch.observe(batch)

    def claimed(self, jobs: int) -> None:
        self.claims.inc(jobs)

    def loaded(self, load: Load) -> None:
        for priority in PRIORITIES:
            self.waiting.labels(priority).set(load.waiting.get(priority, 0))
        self.running.set(load.running)
        self.work.set(load.work_s)
        self.ready.set(load.ready)
        self.held.inc(load.held_s)
        self.expected.set(load.expected_per_s)
        for stream, share in enumerate(load.busy):
            self.busy.labels(stream).set(share)

    def restarted(self) -> None:
        self.restarts.inc()

    def swapped(self, succeeded: bool, seconds: float, longest_gap_s: float) -> None:
        self.swaps.labels("succeeded" if succeeded else "failed").inc()
        self.swap_seconds.set(seconds)
        self.swap_gap.set(longest_gap_s)

    def _model(self, model: str) -> str:
        return model if model in self._models or self._is_new(model) else OTHERS

    def _is_new(self, model: str) -> bool:
        if len(self._models) < MOST_MODELS:
            self._models.add(model)
        return model in self._models

    def _start(self, model: str) -> None:
        """The series of a version that comes for the first time, at 0."""
        if (name := self._model(model)) in self._started:
            return
        self._started.add(name)
        for priority in PRIORITIES:
            for cache in get_args(CacheUse):
                self.jobs.labels(name, priority, cache)
            for outcome in get_args(Outcome):
                self.ends.labels(name, priority, outcome)
        for stage in get_args(StageName):
            self.stages.labels(name, stage)
