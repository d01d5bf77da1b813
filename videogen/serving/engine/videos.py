"""After the steps: latents are decoded to frames, frames encoded to MP4, and the video is sent."""

import time
from collections.abc import Sequence

from videogen.serving.engine.held import Held
from videogen.serving.engine.lives import Live
from videogen.serving.engine.messages import Finished
from videogen.serving.engine.occupancy import Occupancy
from videogen.serving.engine.schedule import Schedule
from videogen.serving.engine.stages import Stage, one_by_one

FRAMES_ROOM = 16
"""Jobs that wait for a stage with latents or frames in memory before the streams help."""


class Videos:
    """One device's. `nice` is how far its threads stand back for steps.

    With `shares_cores`, the streams run on the cores that decoding and MP4 need. They do both themselves then, one
    video after the other: threads beside them would only take turns with them, each with the caches of the others.
    """

    def __init__(self, schedule: Schedule, held: Held, occupancy: Occupancy, nice: int, *, shares_cores: bool) -> None:
        self._schedule, self._held, self._occupancy = schedule, held, occupancy
        room, most = (0, 1) if shares_cores else (FRAMES_ROOM, schedule.most)
        decoder = Stage(
            "decode", self._decode, held.at, together=lambda live: live.key, most=most, room=room, nice=nice
        )
        self._mp4 = Stage("mp4", self._publish, held.at, together=id, most=1, room=room, nice=nice)
        self._decoder, self.stages = decoder, (decoder, self._mp4)

    def put(self, done: Sequence[Live]) -> None:
        """What has all its steps; what the stages have no room for, the caller's thread does now."""
        whole, latents = [live for live in done if live.fused], [live for live in done if not live.fused]
        self._decoder.put(latents)
        self._mp4.put(whole)

    def _decode(self, lives: list[Live]) -> None:
        one_by_one(self._held.wanted(lives), self._finish, self._held.fail)

    def _finish(self, lives: Sequence[Live]) -> None:
        if not lives:
            return
        with self._occupancy.call():
            started = time.perf_counter()
            frames = lives[0].version.model.finish([live.generation for live in lives])
            seconds = time.perf_counter() - started
        for live, found in zip(lives, frames, strict=True):
            live.spent("decode", seconds, len(lives))
            live.frames = found
        self._mp4.put(lives)

    def _publish(self, lives: list[Live]) -> None:
        for live in self._held.wanted(lives):
            one_by_one([live], self._write, self._held.fail)

    def _write(self, lives: Sequence[Live]) -> None:
        for live in lives:
            started = time.perf_counter()
            mp4 = live.version.encode(live.frames, live.accepted.request.fps or 1)
            live.spent("mp4", time.perf_counter() - started, 1)
            rest = sum(live.seconds.get(stage, 0.0) for stage in ("text", "decode", "mp4"))
            with self._held.changed:
                self._schedule.observe_rest(live, rest)
            self._held.end(live, Finished(live.job.id, live.facts(self._schedule.streams), mp4))
