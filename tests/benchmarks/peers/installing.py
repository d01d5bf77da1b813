"""Each peer in a virtual environment of its own, which also sees the project's packages for the engine."""

import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.shared import ROOT


@dataclass(frozen=True, slots=True)
class Package:
    """`python`: what the environment is made with. PyTriton ends at once in a Python that was built for pyenv."""

    name: str
    packages: tuple[str, ...]
    python: str = sys.executable


PACKAGES = {
    "mosec": Package("mosec", ("mosec==0.9.8",)),
    "litserve": Package("litserve", ("litserve==0.2.19",)),
    "pytriton": Package("nvidia-pytriton", ("nvidia-pytriton==0.7.0", "numpy<2"), "/usr/bin/python3"),
}


class NotInstalled(Exception):
    """A peer that can't be had here, and why."""


def python_of(peer: str, venvs: Path) -> Path:
    """The Python of a peer's environment, which is made if it isn't there. Raises NotInstalled."""
    package, folder = PACKAGES[peer], (venvs / peer).absolute()
    python, done = folder / "bin" / "python", folder / ".installed"
    if done.exists() and done.read_text() == " ".join(package.packages):
        return python
    _run([package.python, "-m", "venv", "--clear", str(folder)])
    _run([str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *package.packages])
    site = _run([str(python), "-c", "import sysconfig; print(sysconfig.get_paths()['purelib'])"])
    (Path(site) / "videogen.pth").write_text(f"{sysconfig.get_paths()['purelib']}\n{ROOT}\n")
    done.write_text(" ".join(package.packages))
    return python


def version(peer: str, python: Path) -> str:
    """The version that is installed."""
    name = PACKAGES[peer].name
    return _run([str(python), "-c", f"import importlib.metadata as m; print(m.version({name!r}))"])


def _run(command: list[str]) -> str:
    found = subprocess.run(command, capture_output=True, text=True)
    if found.returncode:
        raise NotInstalled(f"{' '.join(command[:4])} …: {found.stderr.strip().splitlines()[-1:]}")
    return found.stdout.strip()
