"""`make dev`: the Dagster UI, its daemon, MLflow and the inference service on one state, until Ctrl-C."""

import contextlib
import os
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType

from rich.console import Console

from deploy.local import environment, processes
from deploy.local.service import Beside
from videogen import mlflow_client
from videogen.errors import InvalidSetting, VideogenError
from videogen.opening import NotInstalled, require
from videogen.settings import Settings, read_settings

DAGSTER_PORT = ("VIDEOGEN_DAGSTER_PORT", 3000)
MLFLOW_PORT = ("VIDEOGEN_MLFLOW_PORT", 5000)
HTTP_PORT = ("VIDEOGEN_HTTP_PORT", 8000)
GRPC_PORT = ("VIDEOGEN_GRPC_PORT", 50051)
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
    """Runs all of them until one ends by itself, which is an error, or the user stops them."""
    say = partial(console.print, highlight=False, markup=False, soft_wrap=True)
    own_mlflow = settings.tracking_uri.startswith("sqlite:")
    say(f"starting Dagster{' and MLflow' if own_mlflow else ''} on the state in {settings.home}; some seconds …")
    from deploy.local.orphans import fail_orphans  # imports Dagster, and Ctrl-C is answered meanwhile too

    dagster_port, mlflow_port = port_of(*DAGSTER_PORT), port_of(*MLFLOW_PORT)
    processes.require_free(dagster_port, "the Dagster UI", DAGSTER_PORT[0])
    if own_mlflow:
        processes.require_free(mlflow_port, "MLflow", MLFLOW_PORT[0])
    variables = environment.prepare(settings)
    if service_ports := ports_for_service(settings, say):
        variables["VIDEOGEN_SERVICE_URL"] = f"{processes.LOOPBACK}:{service_ports[1]}"
    with environment.open_instance(settings) as instance:
        fail_orphans(instance, settings.dagster_home, say)
    logs = settings.home / "logs"
    with contextlib.ExitStack() as stack:
        children: list[processes.Child] = []

        def start(name: str, command: list[str], extra: Mapping[str, str] = MappingProxyType({})) -> processes.Child:
            block = processes.running(name, command, {**variables, **extra}, logs / f"{name}.log")
            children.append(stack.enter_context(block))
            return children[-1]

        webserver = start("dagster-webserver", environment.webserver_command(processes.LOOPBACK, dagster_port))
        if own_mlflow:  # before the daemon, whose sensors open the database too
            mlflow_client.make_database(settings.tracking_uri)
            quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
            command = environment.mlflow_command(settings, processes.LOOPBACK, mlflow_port)
            mlflow = start("mlflow", command, quiet)
            mlflow.wait_for_port(mlflow_port, START_SECONDS)
        stack.callback(environment.forget_daemon, settings)
        start("dagster-daemon", environment.daemon_command())
        webserver.wait_for_port(dagster_port, START_SECONDS)
        say(f"Dagster  http://{processes.LOOPBACK}:{dagster_port}")
        if own_mlflow:
            say(f"MLflow   http://{processes.LOOPBACK}:{mlflow_port}")
        say(f"logs in  {logs}\nCtrl-C stops everything")
        service = Beside(settings, *service_ports, start, say) if service_ports else None
        try:
            while True:
                for child in children:
                    child.check()
                if service:
                    service.look()
                time.sleep(1.0)
        finally:
            for child in children:  # all at once; each is waited for when its block is left
                child.ask_to_end()


def ports_for_service(settings: Settings, say: Callable[[str], None]) -> tuple[int, int] | None:
    """HTTP's and gRPC's; None, and it says why, where Dagster and MLflow go on without a service of their own."""
    if settings.service_url is not None:
        say(f"Service  {settings.service_url}, as VIDEOGEN_SERVICE_URL says")
        return None
    http_port, grpc_port = port_of(*HTTP_PORT), port_of(*GRPC_PORT)
    try:
        require("fastapi", "serve")
        processes.require_free(http_port, "the service's HTTP", HTTP_PORT[0])
        processes.require_free(grpc_port, "the service's gRPC", GRPC_PORT[0])
    except (NotInstalled, processes.PortTaken) as error:
        say(f"Service  none: {error}")
        return None
    return http_port, grpc_port


def port_of(variable: str, default: int) -> int:
    """The port that `variable` names, or `default`."""
    text = os.environ.get(variable) or str(default)
    if not text.isdecimal() or not 1 <= int(text) <= 65535:
        raise InvalidSetting(variable, text, "a port from 1 to 65535")
    return int(text)


if __name__ == "__main__":
    main()
