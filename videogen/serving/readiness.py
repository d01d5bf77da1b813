"""Whether a replica lives, whether it may get requests, and why not."""

from videogen.serving.making.workload import Workload
from videogen.serving.tasks import Tasks
from videogen.serving.versions.swapping import Swapper


class Readiness:
    """One replica's; `swapper` is None where it serves one version for ever."""

    def __init__(self, work: Workload, tasks: Tasks, swapper: Swapper | None) -> None:
        self.work, self.tasks, self.swapper = work, tasks, swapper
        self.draining = False
        """Does it take no more requests?"""
        self.away: str | None = None
        """Why the store cannot be asked, None while it can."""

    @property
    def live(self) -> bool:
        """Can it do any more good? If not, it is to be started anew; that the store or the engine is away passes."""
        return not self.tasks.lost

    @property
    def ready(self) -> bool:
        return not self.reasons

    @property
    def reasons(self) -> list[str]:
        """Why it is not ready; empty when it is."""
        why = [*self.tasks.lost, *(one for one in (self.work.down, self.away) if one)]
        if self.draining:
            why.append("the service is ending and takes no more requests")
        return why

    @property
    def warnings(self) -> list[str]:
        """What is amiss although requests are answered."""
        return [self.swapper.failed] if self.swapper and self.swapper.failed else []
