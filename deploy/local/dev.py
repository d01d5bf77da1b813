"""`make dev`: the Dagster UI, its daemon and MLflow on one state, until Ctrl-C."""

import contextlib
import os
import sys
import time

from rich.console import Console

from deploy.local import environment, processes
from deploy.local.orphans import fail_orphans
from videogen.errors import InvalidSetting, VideogenError
from videogen.settings import Settings, read_settings

DAGSTER_PORT = ("VIDEOGEN_DAGSTER_PORT", 3000)
MLFLOW_PORT = ("VIDEOGEN_MLFLOW_PORT", 5000)
START_SECONDS = 120


def main() -> None:
    console = Console(stderr=True)
    processes.interrupt_on_sigterm()
    try:
        serve(read_settings(), console)
    except VideogenError as error:
        console.print(f"[red]{error}[/red]", highlight=False)
        sys.exit(1)
    except KeyboardInterrupt:
        console.print("stopped; the state stays in place")


def serve(settings: Settings, console: Console) -> None:
    """Runs all three until one of them ends by itself, which is an error, or the user stops them."""
    dagster_port, mlflow_port = port_of(*DAGSTER_PORT), port_of(*MLFLOW_PORT)
    processes.require_free(dagster_port, "the Dagster UI", DAGSTER_PORT[0])
    own_mlflow = settings.tracking_uri.startswith("sqlite:")
    if own_mlflow:
        processes.require_free(mlflow_port, "MLflow", MLFLOW_PORT[0])
    variables = environment.prepare(settings)
    with environment.open_instance(settings) as instance:
        fail_orphans(instance, settings.dagster_home, console.print)
    logs = settings.home / "logs"
    with contextlib.ExitStack() as stack:

        def start(name: str, command: list[str], extra: dict[str, str]) -> processes.Child:
            return stack.enter_context(processes.running(name, command, variables | extra, logs / f"{name}.log"))

        children = [
            start("dagster-webserver", environment.webserver_command(processes.LOOPBACK, dagster_port), {}),
            start("dagster-daemon", environment.daemon_command(), {}),
        ]
        children[0].wait_for_port(dagster_port, START_SECONDS)
        console.print(f"Dagster  http://{processes.LOOPBACK}:{dagster_port}", highlight=False)
        if own_mlflow:
            quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
            command = environment.mlflow_command(settings, processes.LOOPBACK, mlflow_port)
            children.append(start("mlflow", command, quiet))
            children[-1].wait_for_port(mlflow_port, START_SECONDS)
            console.print(f"MLflow   http://{processes.LOOPBACK}:{mlflow_port}", highlight=False)
        console.print(f"logs in  {logs}\nCtrl-C stops everything", highlight=False)
        try:
            while True:
                for child in children:
                    child.check()
                time.sleep(1.0)
        finally:
            for child in children:  # all at once; each is waited for when its block is left
                child.ask_to_end()


def port_of(variable: str, default: int) -> int:
    """The port that `variable` names, or `default`."""
    text = os.environ.get(variable) or str(default)
    if not text.isdecimal() or not 1 <= int(text) <= 65535:
        raise InvalidSetting(variable, text, "a port from 1 to 65535")
    return int(text)


if __name__ == "__main__":
    main()
