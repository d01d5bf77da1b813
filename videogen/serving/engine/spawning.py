"""A new engine process: a socket to it, its environment, and what it prints."""

import asyncio
import logging
import os
import socket
import sys

from videogen.errors import EngineUnavailable
from videogen.serving.engine.messages import EngineConfig

logger = logging.getLogger(__name__)


async def spawn(config: EngineConfig) -> tuple[asyncio.subprocess.Process, socket.socket]:
    """The process, and our end of the socket to it. Raises EngineUnavailable."""
    try:
        ours, theirs = socket.socketpair()
    except OSError as error:
        raise EngineUnavailable(f"the engine process can't be started: {error}") from error
    with theirs:
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "videogen.serving.engine.worker", "--fd", str(theirs.fileno()),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
                env=_environment(config),
            )  # fmt: skip
        except OSError as error:
            ours.close()
            raise EngineUnavailable(f"the engine process can't be started: {error}") from error
        except BaseException:
            ours.close()
            raise
    return process, ours


async def pass_on_lines(process: asyncio.subprocess.Process) -> None:
    """What it prints goes to the service's log, until it ends."""
    assert process.stdout is not None
    while True:
        try:
            line = await process.stdout.readline()
        except ValueError:  # longer than the buffer
            continue
        if not line:
            return
        logger.info("engine process %d: %s", process.pid, line.decode(errors="replace").rstrip())


def _environment(config: EngineConfig) -> dict[str, str]:
    """One thread for every library that would take all cores: streams are what runs side by side."""
    threads = str(config.threads)
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    return {**os.environ, **dict.fromkeys(names, threads), "PYTHONUNBUFFERED": "1"}
