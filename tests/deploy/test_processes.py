import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from deploy.local import processes
from deploy.local.processes import PortTaken, ProcessFailed, require_free, running

STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)"
)
PARENT = f"""
import subprocess, sys, time
print(subprocess.Popen([sys.executable, "-c", {STUBBORN!r}]).pid, flush=True)
time.sleep(60)
"""


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def eventually(condition, seconds=15.0):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.05)
    return False


def test_a_grandchild_that_ignores_sigterm_is_ended_too(tmp_path, monkeypatch):
    monkeypatch.setattr(processes.end_group, "__defaults__", (3.0,))
    with running("parent", [sys.executable, "-c", PARENT], os.environ, tmp_path / "log") as child:
        assert eventually(lambda: "deaf" in child.log.read_text())
        grandchild = int(child.log.read_text().split()[0])
        assert alive(grandchild)
    assert child.process.returncode == -signal.SIGTERM
    assert eventually(lambda: not alive(grandchild), 2.0)


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's parent-death signal is Linux's own")
def test_a_child_ends_when_its_parent_is_killed_outright(tmp_path):
    program = f"""
import os, pathlib, sys, time
from deploy.local.processes import running
command = [sys.executable, "-c", "import time; time.sleep(60)"]
with running("child", command, os.environ, pathlib.Path({str(tmp_path)!r}) / "log") as child:
    print(child.process.pid, flush=True)
    time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as parent:
        child = int(parent.stdout.readline())
        parent.kill()
    assert eventually(lambda: not alive(child))


def test_a_child_that_ends_by_itself_is_reported_with_its_last_words(tmp_path):
    program = "import sys; print('no such table'); sys.exit(3)"
    with running("daemon", [sys.executable, "-c", program], os.environ, tmp_path / "daemon.log") as child:
        child.process.wait(10)
        with pytest.raises(ProcessFailed, match=r"daemon ended with code 3; its log is .*daemon\.log\nno such table"):
            child.check()


def test_waiting_for_a_port_ends_with_the_child(tmp_path):
    with running("server", [sys.executable, "-c", "print('bye')"], os.environ, tmp_path / "log") as child:
        with pytest.raises(ProcessFailed, match="server ended with code 0"):
            child.wait_for_port(9, 30.0)


def test_a_taken_port_is_named_with_the_setting_that_moves_it():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(PortTaken, match=rf"port {port}, for MLflow, is taken .* VIDEOGEN_MLFLOW_PORT="):
            require_free(port, "MLflow", "VIDEOGEN_MLFLOW_PORT")
    require_free(port, "MLflow", "VIDEOGEN_MLFLOW_PORT")


@pytest.mark.parametrize("ctrl_c", ["default_int_handler", "SIG_IGN"])
def test_sigterm_ends_a_program_as_ctrl_c_would_also_where_ctrl_c_is_ignored(ctrl_c):
    program = (
        "import signal, time\nfrom deploy.local.processes import interrupt_on_sigterm\n"
        f"signal.signal(signal.SIGINT, signal.{ctrl_c})\ninterrupt_on_sigterm()\n"
        "try:\n    print('up', flush=True)\n    time.sleep(60)\nexcept KeyboardInterrupt:\n    print('ended')"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=-1, text=True) as process:
        assert process.stdout.readline() == "up\n"
        process.terminate()
        assert process.communicate(timeout=30)[0] == "ended\n"
