"""Which errors end a step for good: trying again would only say the same again."""

from collections.abc import Generator
from contextlib import contextmanager

import dagster as dg

from videogen.errors import (
    ArtifactCorrupt,
    ArtifactRefused,
    EngineBuildFailed,
    EngineUnavailable,
    InvalidRequest,
    RecordDamaged,
    RecordNotFound,
    RegistryUnavailable,
    StoreUnavailable,
    VersionNotFound,
    VideogenError,
)  # fmt: skip

FINAL = (
    ArtifactCorrupt,
    ArtifactRefused,
    EngineBuildFailed,
    EngineUnavailable,
    InvalidRequest,
    RecordDamaged,
    RecordNotFound,
    VersionNotFound,
)
WOULD_DROP = "WouldDropTarget"
"""The `kind` of a promotion that would leave a target without an engine."""
PASSING = (RegistryUnavailable, StoreUnavailable)
"""What may be gone in a moment: worth the retries of `PATIENCE`."""

PATIENCE = dg.RetryPolicy(max_retries=2, delay=2, backoff=dg.Backoff.EXPONENTIAL, jitter=dg.Jitter.FULL)


@contextmanager
def final_refusals() -> Generator[None]:
    """Turns an error that no retry can mend into a failure of the step that says why and isn't tried again."""
    try:
        yield
    except PASSING:
        raise
    except VideogenError as error:
        raise dg.Failure(
            description=str(error),
            metadata={"reason": str(error), "kind": type(error).__name__},
            allow_retries=not isinstance(error, FINAL),
        ) from error
