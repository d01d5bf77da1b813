"""Engines, as an asset or a check gets them: loaded once, kept for the rest of the run."""

from collections.abc import Callable
from typing import TYPE_CHECKING, get_args

import dagster as dg
from pydantic import Field, PrivateAttr, field_validator

from videogen.settings import TARGETS, Target, read_settings

if TYPE_CHECKING:
    from videogen.engines.base import Engine


class EnginesResource(dg.ConfigurableResource):
    """What engines are built for, with how many threads they run, and those that are loaded.

    With the in-process executor all assets and checks of a run share one of these, so that an engine is loaded once.
    """

    targets: list[str] | None = Field(
        default=None, description=f"Some of {', '.join(TARGETS)}; by default VIDEOGEN_TARGETS, or cpu."
    )
    threads: int | None = Field(
        default=None, gt=0, description="Threads of an engine on the CPU; by default VIDEOGEN_THREADS, or every core."
    )
    _loaded: dict[str, "Engine"] = PrivateAttr(default_factory=dict)

    @field_validator("targets")
    @classmethod
    def _known(cls, targets: list[str] | None) -> list[str] | None:
        unknown = set(targets or ()) - set(TARGETS)
        if unknown or targets == []:
            raise ValueError(f"targets: got {targets}; allowed: one or more of {', '.join(get_args(Target))}")
        return targets

    def targets_to_build(self) -> tuple[Target, ...]:
        """The targets that every version gets an engine for, in a fixed order."""
        wanted = self.targets or read_settings().targets
        return tuple(target for target in TARGETS if target in wanted)

    def thread_count(self) -> int:
        """Threads of an engine on the CPU."""
        return self.threads or read_settings().threads

    def warm(self, key: str, load: Callable[[int], "Engine"]) -> "Engine":
        """The engine `key`, loaded by `load(threads)` the first time that this run asks for it."""
        if key not in self._loaded:
            self._loaded[key] = load(self.thread_count())
        return self._loaded[key]

    def teardown_after_execution(self, context: dg.InitResourceContext) -> None:
        self._loaded.clear()
