"""The service under a simulated clock: one store, and on each device the scheduler that really serves."""

import heapq
import itertools
import math
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from videogen.scheduling.arrivals import Kind, Request
from videogen.scheduling.costs import Costs
from videogen.scheduling.forecast import Forecast
from videogen.scheduling.holding import MEMORY_S, WorthHolding
from videogen.scheduling.job import CLASSES, Job
from videogen.scheduling.policy import Policy
from videogen.scheduling.scheduler import Hold, Run, Scheduler

GOOD = 3.0
"""An answer is good within so many times what it takes alone."""


@dataclass(frozen=True, slots=True)
class StoreCosts:
    """The queue that all devices share: each video that is claimed keeps it busy 1 / `videos_per_s`, one by one;
    a claim of up to `claim_most` is answered `claim_s` later; a video that is there is given in `cached_s`. A video is
    with its caller `answer_s` after its device made it, which works on meanwhile.
    """

    videos_per_s: float = math.inf
    claim_s: float = 0.0
    claim_most: int = 16
    cached_s: float = 0.0
    answer_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Fleet:
    """`devices` alike. A device claims until it has `window` jobs (twice its largest batch, for each stream, if None).

    A decision takes its device `decision_s`. A request is refused that would wait more than `queue_s` by the work that
    waits already. Idle devices claim first, then the one that asked first.
    """

    costs: Costs
    devices: int = 1
    streams: int = 1
    policy: Policy = field(default_factory=Policy)
    hold: bool = True
    store: StoreCosts = field(default_factory=StoreCosts)
    window: int | None = None
    decision_s: float = 0.0
    queue_s: float = math.inf


@dataclass(slots=True)
class Outcome:
    """What came of one simulation. Times are seconds."""

    seconds: float
    devices: int
    arrived: int = 0
    completed: int = 0
    refused: int = 0
    still_there: int = 0
    cached: int = 0
    """Of those completed: answered from the cache."""
    joined: int = 0
    """Of those completed: answered by the generation of another request that was not done yet."""
    good: int = 0
    late: int = 0
    """Neither good nor refused, and too old to become good."""
    missed: int = 0
    """Ended after their deadline."""
    busy_s: float = 0.0
    """Of streams, summed over devices."""
    held_s: float = 0.0
    utilisation: float = 0.0
    store_utilisation: float = 0.0
    latencies: dict[str, list[float]] = field(default_factory=dict)
    """By kind, sorted."""
    batches: Counter[int] = field(default_factory=Counter)
    """Denoiser calls by batch size."""

    @property
    def throughput(self) -> float:
        """Answers a second."""
        return self.completed / self.seconds

    @property
    def goodput(self) -> float:
        """Answers a second within `GOOD` times what they take alone."""
        return self.good / self.seconds

    @property
    def good_share(self) -> float:
        decided = self.good + self.late + self.refused
        return self.good / decided if decided else 1.0

    @property
    def device_s_per_video(self) -> float:
        made = self.completed - self.cached - self.joined
        return self.busy_s / made if made else math.nan

    @property
    def mean_batch(self) -> float:
        calls = self.batches.total()
        return sum(size * count for size, count in self.batches.items()) / calls if calls else math.nan

    def percentile(self, share: float, kind: str | None = None) -> float:
        """The latency that `share` of those completed did not exceed; NaN if none completed."""
        taken = self.latencies.get(kind, []) if kind else sorted(itertools.chain(*self.latencies.values()))
        return taken[max(0, math.ceil(share * len(taken)) - 1)] if taken else math.nan

    @property
    def limit(self) -> str:
        """What is short: "store", "devices" (more than one in ten is late or refused), or "load" where neither is."""
        if self.store_utilisation > 0.98:
            return "store"
        return "devices" if self.good_share < 0.9 else "load"


@dataclass(slots=True, eq=False)
class _Device:
    scheduler: Scheduler
    holding: WorthHolding | None
    free: int
    coming: int = 0
    wake: float = math.inf
    asks: bool = False


@dataclass(slots=True)
class _Waiting:
    request: Request
    number: int
    joined: list[Request] = field(default_factory=list)


def simulate(
    fleet: Fleet, load: Iterable[Request], seconds: float, on_progress: Callable[[float], object] | None = None
) -> Outcome:
    """Plays `seconds` of the load, in order of arrival. `on_progress` is told the share that is done, now and then."""
    return _Simulation(fleet, load, seconds).play(on_progress or (lambda share: None))


class _Simulation:
    def __init__(self, fleet: Fleet, load: Iterable[Request], seconds: float) -> None:
        self.fleet, self.load, self.seconds = fleet, enumerate(load), seconds
        self.outcome = Outcome(seconds, fleet.devices)
        self.now, self.orders = 0.0, itertools.count()
        self.events: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self.queues: dict[str, deque[_Waiting]] = {name: deque() for name in CLASSES}
        self.queued, self.queued_s = 0, 0.0
        self.live: dict[int, _Waiting] = {}
        self.done: dict[int, float] = {}
        self.store_free, self.store_busy = 0.0, 0.0
        self.solo: dict[Kind, float] = {}
        self.each: dict[Kind, float] = {}
        self.idle: deque[_Device] = deque()
        self.asking: deque[_Device] = deque()
        for _ in range(fleet.devices):
            self._ask(self._device())

    def play(self, on_progress: Callable[[float], object]) -> Outcome:
        self._next_arrival()
        told = 0.0
        while self.events and self.events[0][0] <= self.seconds:
            self.now, _, what, arguments = heapq.heappop(self.events)
            what(*arguments)
            if self.now >= told:
                on_progress(self.now / self.seconds)
                told = self.now + self.seconds / 100
        return self._sum_up()

    def _at(self, time: float, what: Callable[..., None], *arguments: Any) -> None:
        heapq.heappush(self.events, (time, next(self.orders), what, arguments))

    def _device(self) -> _Device:
        fleet, policy = self.fleet, self.fleet.policy
        holding = None
        if fleet.hold:
            holding = WorthHolding(
                Forecast(MEMORY_S), fleet.costs,
                bound_s=policy.hold_max_s, streams=fleet.streams, fused_max_s=policy.fused_max_s,
            )  # fmt: skip
        scheduler = Scheduler(fleet.costs, policy, streams=fleet.streams, holding=holding)
        return _Device(scheduler, holding, fleet.streams)

    # Arrivals

    def _next_arrival(self) -> None:
        following = next(self.load, None)
        if following is not None:
            self._at(following[1].at, self._arrive, *following)

    def _arrive(self, number: int, request: Request) -> None:
        self._next_arrival()
        self.outcome.arrived += 1
        if request.repeats is not None:
            if request.repeats in self.done:
                self._at(self.now + self.fleet.store.cached_s, self._answer_cached, request)
                self.outcome.still_there += 1
                return
            if request.repeats in self.live:
                self.live[request.repeats].joined.append(request)
                return
        if self._wait_s() > self.fleet.queue_s:
            self.outcome.refused += 1
            return
        self._solo(request.kind)
        number = number if request.repeats is None else request.repeats  # the original was refused: it comes back now
        waiting = self.live[number] = _Waiting(request, number)
        self.queues[request.kind.priority].append(waiting)
        self.queued += 1
        self.queued_s += self._each(request.kind)
        self._claim()

    def _answer_cached(self, request: Request) -> None:
        self.outcome.still_there -= 1
        self.outcome.cached += 1
        self._answer(request)

    def _wait_s(self) -> float:
        """How long the queue takes, by the devices and by the store."""
        return max(self.queued_s / self.fleet.devices, self.queued / self.fleet.store.videos_per_s)

    # The store

    def _ask(self, device: _Device) -> None:
        if not device.asks:
            device.asks = True
            empty = not len(device.scheduler) and not device.coming
            (self.idle if empty else self.asking).append(device)

    def _window(self, kind: Kind) -> int:
        fleet = self.fleet
        most = min(fleet.costs.batch_max(kind.key), fleet.policy.batch_max or fleet.costs.batch_max(kind.key))
        return fleet.window or 2 * most * fleet.streams

    def _claim(self) -> None:
        """Devices that want work take what waits, as the store gets to them."""
        while self.queued and (self.idle or self.asking) and self.store_free <= self.now:
            device = (self.idle or self.asking).popleft()
            device.asks = False
            first = next(queue for queue in self.queues.values() if queue)[0]
            wanted = self._window(first.request.kind) - len(device.scheduler) - device.coming
            count = min(wanted, self.fleet.store.claim_most, self.queued)
            if count < 1:
                continue
            taken = [self._take() for _ in range(count)]
            device.coming += count
            busy = count / self.fleet.store.videos_per_s
            self.store_busy += busy
            self.store_free = self.now + busy
            self._at(self.store_free + self.fleet.store.claim_s, self._deliver, device, taken)
            if busy:
                self._at(self.store_free, self._claim)

    def _take(self) -> _Waiting:
        waiting = next(queue for queue in self.queues.values() if queue).popleft()
        self.queued -= 1
        self.queued_s = max(0.0, self.queued_s - self._each(waiting.request.kind)) if self.queued else 0.0
        return waiting

    # Devices

    def _deliver(self, device: _Device, taken: list[_Waiting]) -> None:
        device.coming -= len(taken)
        for waiting in taken:
            request = waiting.request
            kind, at = request.kind, request.at
            deadline = None if kind.deadline_s is None else at + kind.deadline_s
            job = Job(str(waiting.number), kind.key, kind.steps, priority=kind.priority, arrived=at, deadline=deadline)
            device.scheduler.add(job, self.now)
        self._run(device)
        self._want(device)

    def _want(self, device: _Device) -> None:
        self._ask(device)
        self._claim()

    def _run(self, device: _Device) -> None:
        device.wake = math.inf
        while device.free:
            choice = device.scheduler.next(self.now)
            if choice is None:
                return
            if isinstance(choice, Hold):
                device.wake = choice.until
                self._at(choice.until, self._woken, device, choice.until, self.now)
                return
            device.free -= 1
            key, size = choice.jobs[0].key, len(choice.jobs)
            busy = self.fleet.streams - device.free
            seconds = choice.steps * self.fleet.costs.step(key, size, busy) + self.fleet.decision_s
            self.outcome.batches[size] += choice.steps
            self._at(self.now + seconds, self._stepped, device, choice, seconds)

    def _woken(self, device: _Device, until: float, since: float) -> None:
        if device.wake == until:
            self.outcome.held_s += until - since
            self._run(device)

    def _stepped(self, device: _Device, run: Run, seconds: float) -> None:
        ended = device.scheduler.stepped(run, seconds, self.now)
        self.outcome.busy_s += seconds
        if not ended:
            self._free(device, [], 0.0)
            return
        busy = self.fleet.streams - device.free
        rest = self.fleet.costs.rest(ended[0].key, len(ended), busy)
        self._at(self.now + rest, self._free, device, ended, rest)

    def _free(self, device: _Device, ended: list[Job], rest: float) -> None:
        device.free += 1
        self.outcome.busy_s += rest
        if ended and self.fleet.store.answer_s:
            self._at(self.now + self.fleet.store.answer_s, self._publish, ended)
        else:
            self._publish(ended)
        self._run(device)
        if ended:
            self._want(device)

    # What came of it

    def _publish(self, ended: list[Job]) -> None:
        for job in ended:
            waiting = self.live.pop(int(job.id))
            self.done[waiting.number] = self.now
            self.outcome.missed += job.deadline is not None and self.now > job.deadline + 1e-9
            self._answer(waiting.request)
            for request in waiting.joined:
                self.outcome.joined += 1
                self._answer(request)

    def _answer(self, request: Request) -> None:
        taken = self.now - request.at
        self.outcome.completed += 1
        self.outcome.latencies.setdefault(request.kind.name, []).append(taken)
        good = taken <= GOOD * self._solo(request.kind)
        self.outcome.good += good
        self.outcome.late += not good

    def _solo(self, kind: Kind) -> float:
        if kind not in self.solo:
            costs = self.fleet.costs
            self.solo[kind] = kind.steps * costs.step(kind.key, 1, 1) + costs.rest(kind.key, 1, 1)
        return self.solo[kind]

    def _each(self, kind: Kind) -> float:
        """Seconds of a device for one of many such requests."""
        if kind not in self.each:
            self.each[kind] = 1 / capacity(self.fleet, kind)
        return self.each[kind]

    def _sum_up(self) -> Outcome:
        outcome = self.outcome
        there = [request for waiting in self.live.values() for request in (waiting.request, *waiting.joined)]
        outcome.still_there += len(there)
        outcome.late += sum(self.seconds - request.at > GOOD * self._solo(request.kind) for request in there)
        for taken in outcome.latencies.values():
            taken.sort()
        outcome.utilisation = outcome.busy_s / (self.seconds * self.fleet.devices * self.fleet.streams)
        outcome.store_utilisation = min(self.store_busy / self.seconds, 1.0)
        return outcome


def capacity(fleet: Fleet, kind: Kind) -> float:
    """Videos a second of one device that always has enough of them, at the batch and streams that give most."""
    most = min(fleet.costs.batch_max(kind.key), fleet.policy.batch_max or fleet.costs.batch_max(kind.key))
    return max(rate(fleet.costs, kind, batch, fleet.streams) for batch in range(1, most + 1))


def rate(costs: Costs, kind: Kind, batch: int, streams: int) -> float:
    """Videos a second of one device whose streams all run batches of this size."""
    seconds = kind.steps * costs.step(kind.key, batch, streams) + costs.rest(kind.key, batch, streams)
    return batch * streams / seconds
