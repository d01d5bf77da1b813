"""The simulated store: one queue by class, out of which devices claim."""

from collections import deque
from dataclasses import dataclass, field

from videogen.scheduling.arrivals import Kind, Request
from videogen.scheduling.job import CLASSES, Job
from videogen.scheduling.simulation.clock import Clock
from videogen.scheduling.simulation.device import Device
from videogen.scheduling.simulation.fleet import Fleet, capacity


@dataclass(slots=True, eq=False)
class Waiting:
    """A video that is to be made, as its first request has it, and all requests that wait for it."""

    request: Request
    number: int
    """Of the request that asked for it first, counted from 0 in order of arrival."""
    id: str
    asked: list[Request] = field(default_factory=list)
    device: Device | None = None
    """What has claimed it."""

    def job(self, now: float) -> Job:
        """As the device gets it: without a deadline it is measured from now, not by how long it waited in the queue."""
        kind = self.request.kind
        deadline = None if kind.deadline_s is None else self.request.at + kind.deadline_s
        return Job(self.id, kind.key, kind.steps, priority=kind.priority, arrived=now, deadline=deadline)


class Queue:
    """`busy_s` is how long the store was busy with handing out."""

    def __init__(self, fleet: Fleet, clock: Clock) -> None:
        self._fleet, self._clock = fleet, clock
        self._lines: dict[str, deque[Waiting]] = {name: deque() for name in CLASSES}
        self._count, self._work_s = 0, 0.0
        self._idle: deque[Device] = deque()
        self._asking: deque[Device] = deque()
        self._free, self.busy_s = 0.0, 0.0
        self._each: dict[Kind, float] = {}

    def wait_s(self) -> float:
        """How long all that waits takes, by the devices and by the store."""
        return max(self._work_s / self._fleet.devices, self._count / self._fleet.store.videos_per_s)

    def put(self, waiting: Waiting) -> None:
        if not waiting.asked:
            return
        self._lines[waiting.request.kind.priority].append(waiting)
        self._count += 1
        self._work_s += self._device_s(waiting.request.kind)
        self._claim()

    def drop(self, waiting: Waiting) -> None:
        """Nobody waits for it any more, wherever it is."""
        if waiting.device is not None:
            waiting.device.drop(waiting.id)
        elif waiting in (line := self._lines[waiting.request.kind.priority]):
            line.remove(waiting)
            self._off(waiting)

    def wants(self, device: Device) -> None:
        """The device has room for more; idle ones are served first."""
        if not device.asks:
            device.asks = True
            (self._asking if len(device) else self._idle).append(device)
        self._claim()

    def _claim(self) -> None:
        """Devices that want work take what waits, as the store gets to them."""
        store = self._fleet.store
        while self._count and (self._idle or self._asking) and self._free <= self._clock.now:
            device = (self._idle or self._asking).popleft()
            device.asks = False
            first = next(line for line in self._lines.values() if line)[0]
            count = min(self._fleet.ahead(first.request.kind) - len(device), store.claim_most, self._count)
            if count < 1:
                continue
            claimed = [self._take(device) for _ in range(count)]
            device.coming += count
            busy = count / store.videos_per_s
            self.busy_s += busy
            self._free = self._clock.now + busy
            self._clock.at(self._free + store.claim_s, self._deliver, device, claimed)
            if busy:
                self._clock.at(self._free, self._claim)

    def _deliver(self, device: Device, claimed: list[Waiting]) -> None:
        device.coming -= len(claimed)
        device.deliver([waiting.job(self._clock.now) for waiting in claimed if waiting.asked])

    def _take(self, device: Device) -> Waiting:
        waiting = next(line for line in self._lines.values() if line).popleft()
        waiting.device = device
        self._off(waiting)
        return waiting

    def _off(self, waiting: Waiting) -> None:
        self._count -= 1
        self._work_s = max(0.0, self._work_s - self._device_s(waiting.request.kind)) if self._count else 0.0

    def _device_s(self, kind: Kind) -> float:
        """Of a device, for one of many such requests."""
        if kind not in self._each:
            self._each[kind] = 1 / capacity(self._fleet, kind)
        return self._each[kind]
