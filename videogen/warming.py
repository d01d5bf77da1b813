"""Warm-up: what an engine takes on this device, alone by stage and batch, and as it serves beside the champion's."""

import hashlib
import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from videogen.artifacts import Artifacts
from videogen.device_leases import DeviceLease
from videogen.errors import ArtifactCorrupt
from videogen.foreign_load import MOST, ForeignLoad

if TYPE_CHECKING:
    from videogen.engines.profile import LatencyPoint, LatencyProfile
    from videogen.evaluation import Candidate
    from videogen.generate import Generator
    from videogen.requests import AcceptedRequest

KIND = "warm-ups"
PROFILE, TIMINGS = "profile.json", "timings.json"
BATCHES = (1, 2, 4, 8)
"""Sizes at which every network is timed, and of which one serves."""
ROUNDS = 5
"""Timings of whole generations, in turns with the champion's."""


@dataclass(frozen=True, slots=True)
class Timings:
    """T(B) of whole generations: requests asked together -> seconds of each round.

    Both answered as they serve, each at its own batch size. `champion` is empty where there was none.
    """

    device: str
    candidate: Mapping[int, Sequence[float]]
    champion: Mapping[int, Sequence[float]]

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "Timings":
        """Raises ArtifactCorrupt if `text` is not what `to_json` wrote."""
        try:
            stored = json.loads(text)
            sides = ({int(batch): tuple(t) for batch, t in stored[name].items()} for name in ("candidate", "champion"))
            return cls(stored["device"], *sides)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ArtifactCorrupt(f"these are no timings: {error}") from error


@dataclass(frozen=True, slots=True)
class WarmUp:
    """What is known of an engine's speed on one device, and where it is kept."""

    folder: Path
    profile: "LatencyProfile"
    timings: Timings
    is_new: bool

    @property
    def batch_size(self) -> int:
        """Requests to a call as this engine serves them."""
        return serving_batch(self.profile)

    @property
    def seconds_per_video(self) -> float:
        """Of the whole device, as this engine serves: the median of what was timed beside the champion's."""
        most = max(self.timings.candidate)
        return statistics.median(self.timings.candidate[most]) / most


def serving_batch(profile: "LatencyProfile") -> int:
    """Requests to a call that give the most videos per second on every stream, as runs use them.

    It is 1 where other work disturbed the measurement.
    """
    most = max(point.streams for point in profile.points)
    return profile.best(most)[0] if profile.exclusive else 1


def read_warm_up(folder: Path) -> WarmUp:
    """The warm-up that is kept in `folder`. Raises ArtifactCorrupt."""
    from videogen.engines.profile import LatencyProfile

    profile = LatencyProfile.from_json((folder / PROFILE).read_text())
    return WarmUp(folder, profile, Timings.from_json((folder / TIMINGS).read_text()), is_new=False)


@dataclass(frozen=True, slots=True)
class Warmer:
    """Measures on the device that `lease` holds. `open_generator` opens a candidate's engine, `streams` at once.

    What was measured is kept, and measured again only for another `attempt`.
    """

    artifacts: Artifacts
    lease: DeviceLease
    streams: int
    open_generator: "Callable[[Candidate], Generator]"
    questions: "Callable[[Candidate, int], list[AcceptedRequest]]"
    """So many requests to a candidate."""
    attempt: str = ""

    def ensure(
        self,
        candidate: "Candidate",
        champion: "Candidate | None",
        on_point: "Callable[[LatencyPoint], None] | None" = None,
    ) -> WarmUp:
        """The warm-up of a candidate beside this champion, measured now if it was not on this device."""
        device = f"{self.lease.device.name} ({self.lease.device.architecture})"
        identity = [
            candidate.engine_key,
            champion and champion.engine_key,
            champion and champion.batch_size,
            device,
            self.streams,
            BATCHES,
            self.attempt,
        ]

        def fill(folder: Path) -> None:
            profile = self._profile(candidate, on_point)
            (folder / PROFILE).write_text(profile.to_json())
            served = replace(candidate, batch_size=serving_batch(profile))
            sides = {"candidate": served} | ({"champion": champion} if champion else {})
            taken = {"candidate": {}, "champion": {}} | self._in_turns(sides)
            (folder / TIMINGS).write_text(Timings(device, **taken).to_json())

        key = hashlib.sha256(json.dumps(identity).encode()).hexdigest()
        path, is_new = self.artifacts.build(KIND, key, fill)
        return replace(read_warm_up(path), is_new=is_new)

    def _profile(self, candidate: "Candidate", on_point: "Callable[[LatencyPoint], None] | None") -> "LatencyProfile":
        from videogen.engines.cache import load_engine
        from videogen.engines.profile import profile_engine

        load = ForeignLoad()
        profile = profile_engine(
            candidate.model.folder,
            candidate.engine_key,
            lambda threads, streams: load_engine(self.artifacts, candidate.engine_key, threads, streams),
            batches=BATCHES,
            streams=sorted({1, self.streams}),
            exclusive=self.lease.mode == "exclusive",
            on_point=on_point,
        )
        return replace(profile, exclusive=profile.exclusive and load.share() < MOST)

    def _in_turns(self, sides: "Mapping[str, Candidate]") -> dict[str, dict[int, list[float]]]:
        # Turn by turn, so that a busy minute of the machine falls on both.
        most = self.streams * max(candidate.batch_size for candidate in sides.values())
        counts = sorted({1, most})
        generators = {name: self.open_generator(candidate) for name, candidate in sides.items()}
        requests = {name: self.questions(candidate, most) for name, candidate in sides.items()}
        taken: dict[str, dict[int, list[float]]] = {name: {count: [] for count in counts} for name in sides}
        for name, generator in generators.items():
            seconds_of(generator, requests[name])
        for _ in range(ROUNDS):
            for count in counts:
                for name, generator in generators.items():
                    taken[name][count].append(seconds_of(generator, requests[name][:count]))
        return taken


def seconds_of(generator: "Generator", requests: "Sequence[AcceptedRequest]") -> float:
    """Wall time of answering `requests` together. Raises what the first of them failed with."""
    from videogen.generate import Failure

    start = time.perf_counter()
    for outcome in generator.generate(requests):
        if isinstance(outcome, Failure):
            raise outcome.error
    return time.perf_counter() - start
