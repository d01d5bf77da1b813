"""The engine process: hears what to load, run and stop over a socket, and tells what became of it.

It ends with the process that started it: at the end of the socket, or by the kernel's word where that can be had.
"""

import argparse
import ctypes
import os
import queue
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from videogen.errors import EngineUnavailable, VideogenError
from videogen.memory import settle
from videogen.serving.engine.messages import (
    HEADER,
    Answer,
    Begin,
    Cancel,
    Change,
    Configure,
    EngineConfig,
    Finished,
    Fork,
    FromEngine,
    Load,
    Loading,
    MalformedMessage,
    Pause,
    Ready,
    RunJob,
    Stop,
    Stopped,
    Unload,
    decode,
    encode,
    sizes,
)

if TYPE_CHECKING:
    from videogen.devices import Device

STATS_S = 0.5
LEASE_LOOK_S = 0.25
MOST_UNSENT = 64 * 2**20
"""Bytes of videos that wait to be read before whoever encodes waits too: the MP4 stage, or a stream."""


class Outbox:
    """Sends from a thread of its own, so that a reader who is slow doesn't hold a step up."""

    def __init__(self, ours: socket.socket) -> None:
        self._socket, self._queue = ours, queue.SimpleQueue[tuple[bytes, threading.Event | None]]()
        self._unsent, self._room = 0, threading.Condition()
        threading.Thread(target=self._serve, name="videogen-outbox", daemon=True).start()

    def send(self, message: FromEngine) -> None:
        frame = encode(message)
        with self._room:
            if isinstance(message, Finished):
                self._room.wait_for(lambda: self._unsent < MOST_UNSENT)
            self._unsent += len(frame)
        self._queue.put((frame, None))

    def flush(self, timeout_s: float) -> None:
        """Waits until all that was sent so far is out."""
        sent = threading.Event()
        self._queue.put((b"", sent))
        sent.wait(timeout_s)

    def _serve(self) -> None:
        while True:
            entries = [self._queue.get()]
            while not self._queue.empty():  # who reads wakes up once for all of it
                entries.append(self._queue.get())
            frames = b"".join(frame for frame, _ in entries)
            try:
                self._socket.sendall(frames)
            except OSError:
                os._exit(0)
            with self._room:
                self._unsent -= len(frames)
                self._room.notify_all()
            for _, sent in entries:
                if sent:
                    sent.set()


class Worker:
    """Carries out what is asked of this process. Loads take turns on a thread of their own."""

    def __init__(self, config: EngineConfig, outbox: Outbox) -> None:
        from videogen.serving.engine.loop import Loop

        self._config, self._outbox = config, outbox
        self._device = _device(config)
        self._streams = config.streams or _streams(self._device)
        is_cpu = self._device is not None and self._device.kind == "cpu"
        self._loop: Loop = Loop(config, self._streams, outbox.send, shares_cores=is_cpu)
        self._loads: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._turn = threading.Lock()
        jobs = [self._serve_loads, self._tell_stats]
        if config.lease_folder and self._device is not None:
            self._loop.hold_back(True)
            self._turn.acquire()
            jobs.append(self._keep_lease)
        for job in jobs:
            threading.Thread(target=job, name=f"videogen-{job.__name__.strip('_')}", daemon=True).start()
        name = "synthetic" if self._device is None else str(self._device)
        outbox.send(Ready(self._streams, name, config.synthetic is not None))

    def take(self, message: Any) -> None:
        """Raises MalformedMessage for what is not for an engine process."""
        loop = self._loop
        match message:
            case RunJob():
                loop.run(message.job)
            case Cancel():
                loop.cancel(message.id)
            case Change():
                loop.change(message.id, message.priority, message.deadline_in)
            case Pause():
                loop.pause(message.paused)
            case Load():
                self._loads.put(lambda: self._answer(message.call, lambda: self._load(message)))
            case Unload():
                self._loads.put(lambda: self._answer(message.call, lambda: self._unload(message)))
            case Fork():
                loop.fork(message)
            case Begin():
                loop.begin(message.id, instead=message.instead)
            case Stop():
                threading.Thread(target=self._stop, args=(message.grace_s,), daemon=True).start()
            case _:
                raise MalformedMessage(f"{type(message).__name__} is not for an engine process")

    def _answer(self, call: int, work: Callable[[], Any]) -> None:
        try:
            self._outbox.send(Answer(call, work()))
        except VideogenError as error:
            self._outbox.send(Answer(call, None, str(error), isinstance(error, EngineUnavailable)))
        except Exception as error:  # the process lives on: the versions that are there still answer
            self._outbox.send(Answer(call, None, f"{type(error).__name__}: {error}"))

    def _serve_loads(self) -> None:
        while True:
            work = self._loads.get()
            with self._turn:
                work()

    def _load(self, message: Load) -> dict[str, Any]:
        from videogen.engines.profile import resident_memory

        wanted, started, before = message.version, time.perf_counter(), resident_memory()
        version = self._made(message)
        settle()
        self._loop.add(version)
        one = version.tables[False].step
        return {
            "version_digest": wanted.version_digest,
            "seconds": time.perf_counter() - started,
            "memory_before": before,
            "memory_after": resident_memory(),
            "engine_key": version.engine_key,
            "precision": version.precision,
            "target": version.target,
            "built": version.built,
            "batch_max": max(batch for batch, _ in one),
            "probe_s": version.probe_s,
            "step_s": {str(batch): seconds for (batch, streams), seconds in sorted(one.items()) if streams == 1},
        }

    def _made(self, message: Load) -> Any:
        if self._config.synthetic is not None or self._device is None:
            from videogen.serving.engine.messages import Synthetic
            from videogen.serving.engine.synthetic import synthetic_version

            return synthetic_version(message.version, self._config.synthetic or Synthetic(), self._streams)
        from videogen.serving.engine.versions import Loader

        def tell(text: str) -> None:
            self._outbox.send(Loading(message.version.version_digest, text))

        alone = not self._loop.versions
        return Loader(self._config, self._device, self._streams).load(message.version, tell, alone=alone)

    def _unload(self, message: Unload) -> None:
        self._loop.remove(message.version_digest)
        settle()

    def _tell_stats(self) -> None:
        while True:
            self._outbox.send(self._loop.stats())
            time.sleep(STATS_S)

    def _keep_lease(self) -> None:
        """Shares the device while nobody wants it alone; gives it up at a step boundary when somebody does."""
        from videogen.device_leases import is_wanted, lease_device

        device, folder = self._device, Path(self._config.lease_folder or "")
        assert device is not None
        while True:
            with ExitStack() as held:
                held.enter_context(lease_device([device], "shared", folder, purpose="serve"))
                self._loop.hold_back(False)
                self._turn.release()
                looks = 0
                while looks < 2:  # once may be somebody who passes by
                    time.sleep(LEASE_LOOK_S)
                    looks = looks + 1 if is_wanted(device, folder) else 0
                self._turn.acquire()
                self._loop.hold_back(True)

    def _stop(self, grace_s: float) -> None:
        self._loop.drained(grace_s)
        self._outbox.send(Stopped(self._loop.held))
        self._outbox.flush(5.0)
        os._exit(0)  # whatever calls are under way


def _device(config: EngineConfig) -> "Device | None":
    if config.synthetic is not None:
        return None
    from videogen.devices import find_devices

    return find_devices()[0]


def _streams(device: "Device | None") -> int:
    return device.cores if device is not None and device.kind == "cpu" else 1


def _end_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def _end_with_thread(args: threading.ExceptHookArgs) -> None:
    """A thread that died is missed: the process ends, and has a successor."""
    threading.__excepthook__(args)
    sys.stderr.flush()
    os._exit(os.EX_SOFTWARE)


def _receive(ours: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        part = ours.recv(min(size - len(data), 1 << 20))
        if not part:
            os._exit(0)  # whoever started this process is gone
        data += part
    return bytes(data)


def _messages(ours: socket.socket) -> Any:
    while True:
        head, payload = sizes(_receive(ours, HEADER.size))
        yield decode(_receive(ours, head), _receive(ours, payload))


def main() -> None:
    """Serves until told to stop. Exit code 65 after a message that can't be read."""
    parser = argparse.ArgumentParser(description="The engine process of the service; started by it.")
    parser.add_argument("--fd", type=int, required=True, help="A connected socket.")
    _end_with_parent()
    threading.excepthook = _end_with_thread
    ours = socket.socket(fileno=parser.parse_args().fd)
    outbox, worker = Outbox(ours), None
    try:
        for message in _messages(ours):
            if worker is None:
                if not isinstance(message, Configure):
                    raise MalformedMessage(f"first: got {type(message).__name__}; allowed: Configure")
                worker = Worker(message.config, outbox)
            else:
                worker.take(message)
    except MalformedMessage as error:
        sys.stderr.write(f"MalformedMessage: {error}\n")
        os._exit(os.EX_DATAERR)
    except VideogenError as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        os._exit(1)


if __name__ == "__main__":
    main()
