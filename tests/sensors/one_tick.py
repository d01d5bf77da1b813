"""Passes of Dagster's own sensor daemon, each in a process that is really killed where Dagster is told to die.

python -m tests.sensors.one_tick <port of the code server>

Reads lines of `<seconds to move the clock on> [<sensor> <point>]`, and answers each with the exit code of its pass.
"""

import datetime
import logging
import multiprocessing
import os
import signal
import sys

import dagster as dg
from dagster._core.test_utils import create_test_daemon_workspace_context, freeze_time
from dagster._core.workspace.load_target import GrpcServerTarget
from dagster._daemon.sensor import execute_sensor_iteration


def tick(port: int, seconds: float, sensor: str = "", point: str = "") -> None:
    """The clock is moved on so that every sensor is due."""
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    target = GrpcServerTarget(host="127.0.0.1", port=port, socket=None, location_name="videogen")
    crash = {sensor: {point: signal.SIGKILL}} if sensor else None
    now = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=seconds)
    with dg.DagsterInstance.get() as instance, create_test_daemon_workspace_context(target, instance) as workspace:
        with freeze_time(now):
            logger = logging.getLogger("daemon")
            list(execute_sensor_iteration(workspace, logger, None, None, debug_crash_flags=crash))  # ty: ignore


def main(port: int) -> None:
    """Importing Dagster takes seconds: it is done once, before the passes part from this process."""
    for line in sys.stdin:
        seconds, *crash = line.split()
        process = multiprocessing.get_context("fork").Process(target=tick, args=(port, float(seconds), *crash))
        process.start()
        process.join()
        print(process.exitcode, flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]))
