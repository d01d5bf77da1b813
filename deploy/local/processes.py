"""Child processes of the local set-up: started with a log file, ended with their parent, whatever happens to it."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from videogen.errors import VideogenError

# Asks Linux (PR_SET_PDEATHSIG) to end the program when its parent dies, even by SIGKILL, then becomes that program.
LAUNCH = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, 15)
if os.getppid() == int(sys.argv[1]):
    os.execvp(sys.argv[2], sys.argv[2:])
"""
LOOPBACK = "127.0.0.1"


class ProcessFailed(VideogenError):
    """A child process ended by itself, or did not do in time what it was started for."""


class PortTaken(VideogenError):
    """Another program listens on a port that one of ours needs."""


@dataclass(frozen=True, slots=True)
class Child:
    """A running program and the file that takes everything it prints."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    def check(self) -> None:
        """Raises ProcessFailed, with the last lines of the log, if the program has ended."""
        if self.process.poll() is not None:
            raise ProcessFailed(
                f"{self.name} ended with code {self.process.returncode}; its log is {self.log}\n{self.tail()}"
            )

    def ask_to_end(self) -> None:
        """Sends SIGTERM to the program and all it started, without waiting."""
        _signal_group(self.process, signal.SIGTERM)

    def tail(self, lines: int = 12) -> str:
        """The last lines that the program printed."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def wait_for_port(self, port: int, seconds: float) -> None:
        """Returns when the program listens on `port`; raises ProcessFailed when it ends first or takes too long."""
        deadline = time.monotonic() + seconds
        while not listens(port):
            self.check()
            if time.monotonic() > deadline:
                raise ProcessFailed(f"{self.name} did not listen on port {port} within {seconds:.0f} s; see {self.log}")
            time.sleep(0.2)


@contextlib.contextmanager
def running(name: str, command: Sequence[str], environment: Mapping[str, str], log: Path) -> Generator[Child]:
    """`command` as a process group of its own, ended (SIGTERM, after ten seconds SIGKILL) when the block is left."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        process = subprocess.Popen(
            [*_end_with_parent(), *command],
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield Child(name, process, log)
    finally:
        end_group(process)


def end_group(process: subprocess.Popen[bytes], grace: float = 10.0) -> None:
    """Ends `process` and everything it started: SIGTERM, and SIGKILL for what is left after `grace` seconds."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        deadline = time.monotonic() + grace
        alive = _signal_group(process, number)
        while alive and time.monotonic() < deadline:
            time.sleep(0.05)
            alive = _signal_group(process, 0)


def _signal_group(process: subprocess.Popen[bytes], number: int) -> bool:
    """Sends a signal (0: none) to the process group; False once nobody is in it."""
    process.poll()  # an ended leader that nobody waited for still counts as a member
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:
        return False
    return True


def _end_with_parent() -> list[str]:
    return [sys.executable, "-c", LAUNCH, str(os.getpid())] if sys.platform == "linux" else []


def interrupt_on_sigterm() -> None:
    """Lets `kill` leave every `running` block as Ctrl-C does, also in a shell's background, where Ctrl-C is ignored."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


def listens(port: int) -> bool:
    """Whether something answers on `port` of this machine."""
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex((LOOPBACK, port)) == 0


def require_free(port: int, what: str, variable: str) -> None:
    """Raises PortTaken unless `what` can listen on `port`; `variable` is the setting that moves it."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError as error:
            raise PortTaken(
                f"port {port}, for {what}, is taken by another program; stop it or choose another port: {variable}=…"
            ) from error
