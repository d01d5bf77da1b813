"""Every error that videogen raises on purpose.

* VideogenError
  + InvalidRequest: a field of a request is not allowed
    - UnknownWord: a prompt holds a word that the model does not know
  + InvalidSetting: an environment variable is not allowed
  + ArtifactError
    - ArtifactMissing, ArtifactCorrupt, ArtifactRefused, DiskFull
  + EngineError
    - EngineUnavailable: it cannot run on this machine
    - EngineBuildFailed
  + DeviceError: what should run networks does not answer
    - DeviceBusy: others hold it
  + GenerationFailed: a request was fine, its video could not be made
  + StoreError
    - RecordNotFound, RecordDamaged, StoreConflict, LeaseLost, StoreUnavailable
    - StoreBusy: a StoreUnavailable of a store that answers, but not so many at once
    - RecordExpired: a RecordNotFound that was there until lately
    - SessionNotFound: a RecordNotFound of the session that a request names
    - InvalidStoreUrl: a StoreUnavailable whose URL is at fault
  + AccessError: who calls may not
    - Unauthenticated: no key, or none that is known
    - Forbidden: the key does not cover it
    - RateLimited: too much for now
  + Overloaded: more work waits than can be done in time
  + Draining: the service is ending
  + ServiceAway: the service cannot be asked
  + RegistryError
    - VersionNotFound, RegistryUnavailable
  + MediaError
    - InvalidFrames: an array is not the frames of a clip
    - UndecodableVideo: bytes are not a video that can be read
  + QualityError
    - MetricUnavailable: what a measure needs is not on this machine
"""

import re
from collections.abc import Mapping


class VideogenError(Exception):
    """The root; catch it to catch them all."""


class InvalidRequest(VideogenError):
    """A field of a request is not allowed. Names the field, what was given, and what is allowed."""

    def __init__(self, field: str, given: object, allowed: str) -> None:
        shown = "nothing" if given is None else repr(given)
        if len(shown) > 120:
            length = len(given) if isinstance(given, str) else len(shown)
            shown = f"{shown[:100]}… ({length:,} characters)"
        super().__init__(f"{field}: got {shown}; allowed: {allowed}")
        self.field, self.given, self.allowed = field, given, allowed

    def __reduce__(self) -> tuple[type, tuple[object, ...]]:
        return type(self), (self.field, self.given, self.allowed)


class UnknownWord(InvalidRequest):
    """A prompt holds a word that the model was never taught."""


class InvalidSetting(VideogenError):
    """An environment variable holds what it may not. Names the variable, what it holds, and what is allowed."""

    def __init__(self, variable: str, given: str, allowed: str) -> None:
        super().__init__(f"{variable}: got {given!r}; allowed: {allowed}")
        self.variable, self.given, self.allowed = variable, given, allowed

    def __reduce__(self) -> tuple[type, tuple[object, ...]]:
        return type(self), (self.variable, self.given, self.allowed)


class ArtifactError(VideogenError):
    """Something is wrong with a stored folder of files."""


class ArtifactMissing(ArtifactError):
    """There is no such artifact."""


class ArtifactCorrupt(ArtifactError):
    """A file's content is not what its manifest says."""


class ArtifactRefused(ArtifactError):
    """A file is of a kind that is never read, such as a pickle, or a path leads out of its folder."""


class DiskFull(ArtifactError):
    """There is no room left for what was being written."""


class EngineError(VideogenError):
    """An engine could not be built, loaded or run."""


class EngineUnavailable(EngineError):
    """The engine cannot run on this machine."""


class EngineBuildFailed(EngineError):
    """The builder refused the graph."""


class DeviceError(VideogenError):
    """What should run networks does not answer."""


class DeviceBusy(DeviceError):
    """Others hold the device, and the time to wait is over."""


class GenerationFailed(VideogenError):
    """A request was fine, but its video could not be made."""


class StoreError(VideogenError):
    """The store could not do what was asked."""


class RecordNotFound(StoreError):
    """There is no record of that id."""


class RecordExpired(RecordNotFound):
    """There was a record of that id, until its time was over."""


class SessionNotFound(RecordNotFound):
    """A request names a session that ended, ran out, is another tenant's, or never was."""


class RecordDamaged(StoreError):
    """A record is there, but holds what nobody wrote."""


class StoreConflict(StoreError):
    """Somebody else changed the record first."""


class LeaseLost(StoreError):
    """The lease ran out or was taken over: this holder's writes are refused."""


class StoreUnavailable(StoreError):
    """The store cannot be reached."""


class StoreBusy(StoreUnavailable):
    """More calls wait for the store than may."""


class InvalidStoreUrl(StoreUnavailable):
    """A URL names no store that there is or could be. Names the URL and what is allowed."""

    def __init__(self, url: str, allowed: str) -> None:
        super().__init__(f"store URL: got {re.sub(r'(?<=://)[^/@]*@', '…@', url)!r}; allowed: {allowed}")
        self.url, self.allowed = url, allowed

    def __reduce__(self) -> tuple[type, tuple[object, ...]]:
        return type(self), (self.url, self.allowed)


class StoreInDoubt(StoreUnavailable):
    """The store did not answer a write: it may have happened or not, and may happen yet."""


class AccessError(VideogenError):
    """Who calls may not have what is asked."""


class Unauthenticated(AccessError):
    """No API key came with the call, or none that is known and in force."""


class Forbidden(AccessError):
    """The caller's API key does not cover this."""


class RateLimited(AccessError):
    """Too much of something for now. `retry_after_s`: when the same call may pass; `headers`: the same for HTTP."""

    def __init__(self, message: str, retry_after_s: float, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.retry_after_s, self.headers = retry_after_s, dict(headers or {})

    def __reduce__(self) -> tuple[type, tuple[object, ...]]:
        return type(self), (str(self), self.retry_after_s, self.headers)


class Overloaded(VideogenError):
    """More work waits than can be done in time. In seconds: when to come again, and when it would have been done."""

    def __init__(self, message: str, retry_after_s: float, eta_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s, self.eta_s = retry_after_s, eta_s

    def __reduce__(self) -> tuple[type, tuple[object, ...]]:
        return type(self), (str(self), self.retry_after_s, self.eta_s)


class Draining(VideogenError):
    """The service is ending and takes nothing new: another replica does."""


class ServiceAway(VideogenError):
    """The service cannot be asked, or does not answer this caller."""


class RegistryError(VideogenError):
    """The model registry could not do what was asked."""


class VersionNotFound(RegistryError):
    """The registry has no such model version."""


class RegistryUnavailable(RegistryError):
    """The registry cannot be reached."""


class MediaError(VideogenError):
    """A video or a picture could not be read or written."""


class InvalidFrames(MediaError):
    """An array is not the frames of a clip, or does not fit what is asked of it."""


class UndecodableVideo(MediaError):
    """Bytes are not a video that can be read."""


class QualityError(VideogenError):
    """A measure of quality could not be taken."""


class MetricUnavailable(QualityError):
    """What the measure needs is not on this machine; the message says how to get it."""
