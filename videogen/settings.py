"""Where this installation keeps its state and what it builds for, read from the environment once."""

import base64
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from videogen.errors import InvalidRequest, InvalidSetting
from videogen.store.api_keys import TENANT
from videogen.store.rate_limits import RateLimit

Target = Literal["cpu", "tensorrt-rtx", "tensorrt"]

MIB = 1024 * 1024
TARGETS: tuple[Target, ...] = get_args(Target)
LEAST_WEIGHT, MOST_WEIGHT = 0.01, 100.0
"""Of a tenant: with less, its turns would lie beyond all clocks."""


@dataclass(frozen=True, slots=True)
class ServingLimits:
    """What the service allows. None: as much as they like."""

    key: RateLimit | None = None
    """Requests of every API key that has no limit of its own."""
    tenant: RateLimit | None = None
    """Requests of every tenant, all its keys together."""
    tenant_streams: int = 64
    """Of one tenant at once, on each replica: watched jobs and videos on their way."""
    prompt_characters: int = 4_000
    key_reads: RateLimit | None = None
    """Looks at what is there, of every API key, on each replica."""
    tenant_reads: RateLimit | None = RateLimit(per_second=500.0, burst=3_000.0)  # noqa: RUF009 - frozen
    """The same of every tenant, all its keys together."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Values a command, a run or a service starts from. Every path is absolute."""

    home: Path
    store_url: str
    artifacts_url: str
    tracking_uri: str
    targets: tuple[Target, ...]
    threads: int
    registry_uri: str | None
    """MLflow's model registry, where it is another place than the tracking."""
    mlflow_ui: str | None
    """Where a browser finds MLflow, None where the tracking URI itself is the address."""
    dagster_ui: str
    """Where a browser finds Dagster."""
    serving_limits: ServingLimits = ServingLimits()
    webhook_secret: str | None = field(default=None, repr=False)
    """What webhooks are signed with; without it there are none."""
    outgoing_allow: frozenset[str] = frozenset()
    """Hosts, or `HOST:PORT`, that callers may name although they are not public."""
    store_cache_bytes: int = 64 * MIB
    """Of videos that each process keeps in its memory, in front of the store; 0 for none."""
    service_url: str | None = None
    """`HOST:PORT` of a service's gRPC, to which runs hand their batches; None: they make the videos themselves."""
    service_api_key: str | None = field(default=None, repr=False)
    """A key of scope `admin`, where that service has keys."""
    given_device_locks: Path | None = None
    price_per_hour: float | None = None
    """US dollars of one device, by which the service tells what a video cost."""
    share_between_tenants: bool = False
    """May one tenant's request be answered with another's video? One answer for all processes on a store."""
    tenant_weights: Mapping[str, float] = field(default_factory=dict)
    """How much more than a tenant that is not named one gets of what is answered."""

    @property
    def device_locks(self) -> Path:
        """Where leases on devices are kept: one folder for all that use the same device."""
        return self.given_device_locks or self.home / "devices"

    @property
    def dagster_home(self) -> Path:
        """The folder that DAGSTER_HOME names for `make demo` and `make dev`."""
        return self.home / "dagster"

    @property
    def tracking_artifacts(self) -> Path:
        """Where a local MLflow keeps its files."""
        return self.home / "mlartifacts"


def read_settings(environment: Mapping[str, str] | None = None) -> Settings:
    """Settings from `environment` (the process's own if not given); a variable that is empty counts as unset.

    Raises InvalidSetting, naming the variable, what it holds and what is allowed.
    """
    given = {name: value for name, value in (os.environ if environment is None else environment).items() if value}
    home = Path(given.get("VIDEOGEN_HOME", "var")).expanduser().absolute()
    tracking_uri = given.get("MLFLOW_TRACKING_URI", f"sqlite:///{home / 'mlflow.db'}")
    local = tracking_uri.startswith("sqlite:")
    return Settings(
        home=home,
        store_cache_bytes=_whole(given, "VIDEOGEN_STORE_CACHE_BYTES", 64 * MIB, 2**40, least=0),
        store_url=given.get("VIDEOGEN_STORE_URL", f"embedded:{home / 'store'}"),
        artifacts_url=given.get("VIDEOGEN_ARTIFACTS_URL", str(home / "artifacts")),
        tracking_uri=tracking_uri,
        targets=_targets(given.get("VIDEOGEN_TARGETS", "cpu")),
        threads=_threads(given.get("VIDEOGEN_THREADS")),
        registry_uri=given.get("MLFLOW_REGISTRY_URI"),
        mlflow_ui=given.get("VIDEOGEN_MLFLOW_UI", _local(given, "VIDEOGEN_MLFLOW_PORT", 5000) if local else None),
        dagster_ui=given.get("VIDEOGEN_DAGSTER_UI", _local(given, "VIDEOGEN_DAGSTER_PORT", 3000)),
        serving_limits=ServingLimits(
            key=_rate(given, "VIDEOGEN_KEY_RPM", "VIDEOGEN_KEY_BURST"),
            tenant=_rate(given, "VIDEOGEN_TENANT_RPM", "VIDEOGEN_TENANT_BURST"),
            tenant_streams=_whole(given, "VIDEOGEN_TENANT_STREAMS", 64, 100_000),
            prompt_characters=_whole(given, "VIDEOGEN_PROMPT_CHARACTERS", 4_000, 4_000),
            key_reads=_rate(given, "VIDEOGEN_KEY_READ_RPM", "VIDEOGEN_KEY_READ_BURST"),
            tenant_reads=_rate(given, "VIDEOGEN_TENANT_READ_RPM", "VIDEOGEN_TENANT_READ_BURST")
            or ServingLimits().tenant_reads,
        ),
        webhook_secret=_secret(given.get("VIDEOGEN_WEBHOOK_SECRET")),
        outgoing_allow=_hosts(given.get("VIDEOGEN_OUTGOING_ALLOW", "")),
        service_url=_address(given, "VIDEOGEN_SERVICE_URL"),
        service_api_key=given.get("VIDEOGEN_SERVICE_API_KEY"),
        given_device_locks=_path(given, "VIDEOGEN_DEVICE_LOCKS"),
        price_per_hour=_price(given.get("VIDEOGEN_PRICE_PER_HOUR")),
        share_between_tenants=_yes(given, "VIDEOGEN_SHARE_BETWEEN_TENANTS"),
        tenant_weights=_weights(given.get("VIDEOGEN_TENANT_WEIGHTS", "")),
    )


def _local(given: Mapping[str, str], variable: str, port: int) -> str:
    """Where `make dev` serves it."""
    return f"http://127.0.0.1:{given.get(variable, port)}"


def _path(given: Mapping[str, str], variable: str) -> Path | None:
    return Path(given[variable]).expanduser().absolute() if variable in given else None


def _address(given: Mapping[str, str], variable: str) -> str | None:
    if variable not in given:
        return None
    host, colon, port = (text := given[variable]).rpartition(":")
    if not (host and colon and port.isdecimal() and 1 <= int(port) <= 65535) or any(c in host for c in "/@ "):
        raise InvalidSetting(variable, text, "HOST:PORT of a service's gRPC, such as 127.0.0.1:50051")
    return text


def _secret(text: str | None) -> str | None:
    """What begins with `whsec_` is base64, as Standard Webhooks has it."""
    if text is not None and text.startswith("whsec_"):
        try:
            base64.b64decode(text.removeprefix("whsec_"), validate=True)
        except ValueError as error:
            allowed = "base64 after whsec_, or a text that does not begin so"
            raise InvalidSetting("VIDEOGEN_WEBHOOK_SECRET", "whsec_…", allowed) from error
    return text


def _hosts(text: str) -> frozenset[str]:
    hosts = frozenset(part.strip().lower() for part in text.split(",") if part.strip())
    if any(character in host for host in hosts for character in "/@ *"):
        raise InvalidSetting("VIDEOGEN_OUTGOING_ALLOW", text, "a comma-separated list of HOST or HOST:PORT")
    return hosts


def _targets(text: str) -> tuple[Target, ...]:
    names = [name.strip() for name in text.split(",")]
    targets = tuple(target for target in TARGETS if target in names)
    if len(targets) != len(names):
        raise InvalidSetting("VIDEOGEN_TARGETS", text, f"a comma-separated list of {', '.join(TARGETS)}")
    return targets


def _threads(text: str | None) -> int:
    if text is None:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return _whole({"VIDEOGEN_THREADS": text}, "VIDEOGEN_THREADS", 1, 1024)


def _whole(given: Mapping[str, str], variable: str, default: int, most: int, least: int = 1) -> int:
    text = given.get(variable, str(default))
    if not text.isdecimal() or not least <= int(text) <= most:
        raise InvalidSetting(variable, text, f"a whole number from {least} to {most}")
    return int(text)


def _number(text: str) -> float | None:
    """None for what is no finite number."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _price(text: str | None) -> float | None:
    if text is None:
        return None
    price = _number(text)
    if price is None or price < 0:
        raise InvalidSetting("VIDEOGEN_PRICE_PER_HOUR", text, "US dollars an hour of one device, a number from 0")
    return price


def _yes(given: Mapping[str, str], variable: str) -> bool:
    text = given.get(variable, "no")
    if text not in ("yes", "no"):
        raise InvalidSetting(variable, text, "yes or no")
    return text == "yes"


def _weights(text: str) -> dict[str, float]:
    weights: dict[str, float] = {}
    for part in filter(None, text.split(",")):
        name, given = (side.strip() for side in part.partition("=")[::2])
        weight = _number(given)
        if not TENANT.fullmatch(name) or name in weights or weight is None or not LEAST_WEIGHT <= weight <= MOST_WEIGHT:
            allowed = (
                "TENANT=WEIGHT, separated by commas, each tenant once and named as its API keys name it, "
                f"each weight from {LEAST_WEIGHT:g} to {MOST_WEIGHT:g}"
            )
            raise InvalidSetting("VIDEOGEN_TENANT_WEIGHTS", text, allowed)
        weights[name] = weight
    return weights


def _rate(given: Mapping[str, str], rpm: str, burst: str) -> RateLimit | None:
    if rpm not in given:
        if burst in given:
            raise InvalidSetting(burst, given[burst], f"only with {rpm}")
        return None
    try:
        return RateLimit.per_minute(float(given[rpm]), float(given[burst]) if burst in given else None)
    except (ValueError, InvalidRequest) as error:
        shown = " ".join(given[name] for name in (rpm, burst) if name in given)
        allowed = "requests per minute above 0, and as burst 1 or more that flow back within a year"
        raise InvalidSetting(rpm, shown, allowed) from error
