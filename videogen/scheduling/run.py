"""What the scheduler answers: run these jobs, or wait."""

from dataclasses import dataclass

from videogen.scheduling.job import Job


@dataclass(frozen=True, slots=True)
class Run:
    """One denoiser call for these jobs, or, with `steps` > 1, all the steps that they have left in one."""

    jobs: tuple[Job, ...]
    steps: int


@dataclass(frozen=True, slots=True)
class Hold:
    """Nothing to run before this time, unless a job is added: then ask again."""

    until: float
