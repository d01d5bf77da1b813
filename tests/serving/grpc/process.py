"""`videogen serve` for what only speaks gRPC."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.serving.running import serving


@contextmanager
def served(folder: Path, *options: str) -> Iterator[str]:
    """The address of its gRPC. It is asked to end afterwards, and must do so without an error."""
    with serving(folder / "home", None, *options) as one:
        yield f"127.0.0.1:{one.grpc}"
    assert one.process.returncode == 0, one.log.read_text()
