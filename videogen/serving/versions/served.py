"""The model versions that a service serves, and what a request may call them."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from videogen.errors import InvalidRequest
from videogen.models.spec import ModelSpec
from videogen.requests import UNGATED, AcceptedRequest, accept, parse_request
from videogen.resolve import CHAMPION
from videogen.serving.jobs import ModelInfo
from videogen.store.records import ServedEngine


@dataclass(frozen=True, slots=True)
class ServedVersion:
    """A version that an engine process has loaded. `vocabulary`: the words it knows, None for any text."""

    name: str
    label: str
    version_digest: str
    spec: ModelSpec
    vocabulary: tuple[str, ...] | None
    folder: Path | None = None
    targets: Mapping[str, ServedEngine] = field(default_factory=dict)
    ungated: bool = False
    since: float = field(default_factory=time.time)

    @property
    def served_as(self) -> str:
        """What the store and the other replicas are told that is served; see `AcceptedRequest.served_as`."""
        return UNGATED * self.ungated + self.version_digest

    def again(self, accepted: AcceptedRequest) -> AcceptedRequest:
        """A request that another version was to make, for this one. Raises InvalidRequest if it asks for that other."""
        request = accepted.request
        if request.model not in (self.name, f"{self.name}@{CHAMPION}"):
            raise InvalidRequest("model", request.model, self.label)
        anew = accept(request, self.spec, self.version_digest, self.vocabulary, label=self.label)
        own = {"fingerprint": accepted.fingerprint, "changes": accepted.changes} if accepted.changes else {}
        return anew.model_copy(update={"id": accepted.id, **own})

    def info(self, champion: bool) -> ModelInfo:
        return ModelInfo(
            self.name,
            self.label,
            self.version_digest,
            champion and not self.ungated,
            self.ungated,
            self.since,
            self.spec,
        )


class Versions:
    """What is admitted (`current`) and what is still loaded beside it, by digest."""

    def __init__(self) -> None:
        self.loaded: dict[str, ServedVersion] = {}
        self.current: ServedVersion | None = None

    def admit(self, version: ServedVersion) -> None:
        """From now on new requests go to this one."""
        self.loaded[version.version_digest] = version
        self.current = version

    def drop(self, digest: str) -> None:
        self.loaded.pop(digest, None)

    def resolve(self, reference: str) -> ServedVersion:
        """The version that a request means. Raises InvalidRequest naming what is served."""
        current = self.current
        for version in self.loaded.values():
            if reference == version.label:
                return version
        if current is not None and reference in (current.name, f"{current.name}@{CHAMPION}"):
            return current
        served = [f"{current.name}, {current.name}@{CHAMPION}"] if current else []
        served += [version.label for version in self.loaded.values()]
        raise InvalidRequest("model", reference, " or ".join(served) or "nothing yet: the service is starting")

    def accept(self, fields: Mapping[str, Any], tenant: str) -> AcceptedRequest:
        """What a tenant's request, as `videogen.requests.Request` has its fields, is for what is served.

        What an ungated version makes has a fingerprint of its own. Raises InvalidRequest.
        """
        served = {"model": self.current.name} if self.current else {}
        request = parse_request({"lane": "interactive", **served, **fields, "tenant": tenant})
        version = self.resolve(request.model)
        accepted = accept(request, version.spec, version.version_digest, version.vocabulary, label=version.label)
        return accepted.model_copy(update={"fingerprint": UNGATED + accepted.id}) if version.ungated else accepted

    def infos(self) -> list[ModelInfo]:
        """What is loaded; first what a request means that names no version."""
        found = sorted(self.loaded.values(), key=lambda version: version is not self.current)
        return [version.info(version is self.current) for version in found]
