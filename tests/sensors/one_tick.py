"""One pass of Dagster's own sensor daemon, in a process that is really killed where Dagster is told to die.

python -m tests.sensors.one_tick <port of the code server> <seconds to move the clock on> [<sensor> <point>]
"""

import datetime
import logging
import signal
import sys

import dagster as dg
from dagster._core.test_utils import create_test_daemon_workspace_context, freeze_time
from dagster._core.workspace.load_target import GrpcServerTarget
from dagster._daemon.sensor import execute_sensor_iteration


def main(port: int, seconds: float, sensor: str = "", point: str = "") -> None:
    """The clock is moved on so that every sensor is due."""
    target = GrpcServerTarget(host="127.0.0.1", port=port, socket=None, location_name="videogen")
    crash = {sensor: {point: signal.SIGKILL}} if sensor else None
    now = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=seconds)
    with dg.DagsterInstance.get() as instance, create_test_daemon_workspace_context(target, instance) as workspace:
        with freeze_time(now):
            logger = logging.getLogger("daemon")
            list(execute_sensor_iteration(workspace, logger, None, None, debug_crash_flags=crash))  # ty: ignore


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]), *sys.argv[3:])
