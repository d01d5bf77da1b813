"""When a version that could not be served is tried again: later each time, and not for ever."""

import time
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds before the second try, which double with each further one up to `longest_s`; `most` tries in all."""

    first_s: float = 15.0
    longest_s: float = 900.0
    most: int = 8


class Retries:
    """Of one version, for which one replica has `patience`."""

    def __init__(self, patience: Patience | None = None) -> None:
        self.patience = patience or Patience()
        self.tries = 0
        self._next_at: float | None = None

    @property
    def is_due(self) -> bool:
        return self._next_at is not None and time.monotonic() >= self._next_at

    def over(self) -> None:
        """It is served, or another is to be."""
        self.tries, self._next_at = 0, None

    def failed(self, may_again: bool) -> str:
        """Counts a try; what people are told of the next one. Not `may_again`: it would cost the version in service."""
        self.tries, self._next_at = self.tries + 1, None
        if not may_again:
            return "not tried again by itself, for there is no room for both: the one in service would end for it"
        if self.tries >= self.patience.most:
            return f"given up after {self.tries} tries: a reload, or another champion, begins anew"
        pause = min(self.patience.first_s * 2 ** (self.tries - 1), self.patience.longest_s)
        self._next_at = time.monotonic() + pause
        at = time.strftime("%H:%M:%S UTC", time.gmtime(time.time() + pause))
        return f"try {self.tries} of {self.patience.most}, the next at {at}"
