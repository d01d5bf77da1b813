"""`videogen serve` beside Dagster: started with the first champion, or at once if there is one."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from deploy.local import environment, processes
from videogen.errors import StoreUnavailable
from videogen.opening import open_store
from videogen.settings import Settings

NAME, MODEL = "videogen-serve", "videogen-tiny"
LOOK_S = 3.0
GRACE_S = 5
"""What it has in hand when it ends gets this long; what is left goes back into the queue."""

Start = Callable[[str, list[str], Mapping[str, str]], processes.Child]
NOT_DAGSTERS = {"DAGSTER_HOME": ""}
"""Who looks for what is left of a Dagster instance must not take it for a part of that."""


@dataclass(slots=True)
class Beside:
    """Looked after from the loop that watches all processes; `say` gets lines for people."""

    settings: Settings
    http_port: int
    grpc_port: int
    start: Start
    say: Callable[[str], None]
    child: processes.Child | None = None
    _answers: bool = False
    _said: str | None = None
    _looked_at: float = float("-inf")

    def look(self) -> None:
        """Starts it once there is a champion; says where it is once it answers."""
        if self.child is None:
            if time.monotonic() - self._looked_at >= LOOK_S and self._has_champion():
                self.child = self.start(NAME, self._command(), NOT_DAGSTERS)
        elif not self._answers and processes.listens(self.grpc_port):
            self._answers = True
            at = processes.LOOPBACK
            self.say(f"Service  http://{at}:{self.http_port}/docs, gRPC at {at}:{self.grpc_port}")

    def _has_champion(self) -> bool:
        self._looked_at = time.monotonic()
        try:
            with open_store(self.settings) as store:
                found = store.champion(MODEL) is not None
        except StoreUnavailable as error:
            self._say_once(f"Service  not yet: {error}")
            return False
        if not found:
            self._say_once(f"Service  not yet: {MODEL} has no champion; `make demo` makes one, and then it starts")
        return found

    def _say_once(self, text: str) -> None:
        if text != self._said:
            self._said = text
            self.say(text)

    def _command(self) -> list[str]:
        ports = ["--http-port", str(self.http_port), "--grpc-port", str(self.grpc_port)]
        return [environment.script("videogen"), "serve", "--model", MODEL, *ports, "--grace", str(GRACE_S)]
