"""The service under a simulated clock: one store, and on each device the scheduler that really serves."""

import itertools
from collections.abc import Callable, Iterable

from videogen.scheduling.arrivals import Kind, Request
from videogen.scheduling.job import Job
from videogen.scheduling.simulation.clock import Clock
from videogen.scheduling.simulation.device import Device
from videogen.scheduling.simulation.fleet import Fleet, rate
from videogen.scheduling.simulation.outcome import GOOD, Outcome
from videogen.scheduling.simulation.queue import Queue, Waiting


def simulate(
    fleet: Fleet, load: Iterable[Request], seconds: float, on_progress: Callable[[float], object] | None = None
) -> Outcome:
    """Plays `seconds` of the load, in order of arrival. `on_progress` is told the share that is done, now and then."""
    service = _Service(fleet, load, seconds)
    service.begin()
    service.clock.play(seconds, on_progress or (lambda share: None))
    return service.sum_up()


class _Service:
    """What comes and what is answered; requests come to the devices' fronts in turn."""

    def __init__(self, fleet: Fleet, load: Iterable[Request], seconds: float) -> None:
        self.fleet, self.load, self.clock = fleet, enumerate(load), Clock()
        self.outcome = Outcome(seconds, fleet.devices)
        self.queue = Queue(fleet, self.clock)
        self.devices = [
            Device(fleet, self.clock, self.outcome, self._made, self.queue.wants) for _ in range(fleet.devices)
        ]
        self.ids = map(str, itertools.count())
        self.live: dict[int, Waiting] = {}
        self.making: dict[str, Waiting] = {}
        self.done: dict[int, float] = {}
        self.alone: dict[Kind, float] = {}

    def begin(self) -> None:
        for device in self.devices:
            self.queue.wants(device)
        self._next_arrival()

    # What comes

    def _next_arrival(self) -> None:
        following = next(self.load, None)
        if following is not None:
            self.clock.at(following[1].at, self._arrive, *following)

    def _arrive(self, number: int, request: Request) -> None:
        self._next_arrival()
        self.outcome.arrived += 1
        if request.repeats is not None:
            if request.repeats in self.done:
                self.clock.at(self.clock.now + self.fleet.store.cached_s, self._answer_cached, request)
                self.outcome.still_there += 1
                return
            if request.repeats in self.live:
                self._wait(self.live[request.repeats], request)
                return
        if self.queue.wait_s() > self.fleet.queue_s:
            self.outcome.refused += 1
            return
        number = number if request.repeats is None else request.repeats  # the original was refused: it comes back now
        waiting = self.live[number] = Waiting(request, number, next(self.ids))
        self.making[waiting.id] = waiting
        self._wait(waiting, request)
        front = self.devices[number % len(self.devices)].front
        front.after(self.fleet.front.accept_s, self.queue.put, waiting)

    def _wait(self, waiting: Waiting, request: Request) -> None:
        waiting.asked.append(request)
        if (deadline_s := request.kind.deadline_s) is not None:
            self.clock.at(request.at + deadline_s, self._expire, waiting, request)

    def _expire(self, waiting: Waiting, request: Request) -> None:
        if request in waiting.asked:
            waiting.asked.remove(request)
            self.outcome.missed += 1
            if not waiting.asked:
                del self.live[waiting.number], self.making[waiting.id]
                self.queue.drop(waiting)

    def _answer_cached(self, request: Request) -> None:
        self.outcome.still_there -= 1
        self.outcome.cached += 1
        self._answer(request)

    # What is answered

    def _made(self, device: Device, ended: list[Job]) -> None:
        costs = self.fleet.front
        device.front.after(len(ended) * costs.answer_s, self._publish, ended, later_s=costs.way_s)

    def _publish(self, ended: list[Job]) -> None:
        for job in ended:
            if (waiting := self.making.pop(job.id, None)) is None:
                continue  # its last deadline passed on the way
            del self.live[waiting.number]
            self.done[waiting.number] = self.clock.now
            self.outcome.joined += len(waiting.asked) - 1
            for request in waiting.asked:
                self._answer(request)
            waiting.asked.clear()

    def _answer(self, request: Request) -> None:
        taken = self.clock.now - request.at
        self.outcome.completed += 1
        self.outcome.latencies.setdefault(request.kind.name, []).append(taken)
        good = taken <= GOOD * self._alone(request.kind)
        self.outcome.good += good
        self.outcome.late += not good

    def _alone(self, kind: Kind) -> float:
        if kind not in self.alone:
            self.alone[kind] = 1 / rate(self.fleet.costs, kind, 1, 1)
        return self.alone[kind]

    def sum_up(self) -> Outcome:
        outcome = self.outcome
        there = [request for waiting in self.live.values() for request in waiting.asked]
        outcome.still_there += len(there)
        outcome.late += sum(outcome.seconds - request.at > GOOD * self._alone(request.kind) for request in there)
        for taken in outcome.latencies.values():
            taken.sort()
        outcome.utilisation = outcome.busy_s / (outcome.seconds * self.fleet.devices * self.fleet.streams)
        outcome.store_utilisation = min(self.queue.busy_s / outcome.seconds, 1.0)
        return outcome
