"""What a Redis server has to be set to for the store, and how to set it so."""

from collections.abc import Iterator, Mapping

from videogen.findings import Finding

LONGEST_SKEW_S = 5.0
OLDEST = (6, 0)
SHORT_OF_MEMORY = 0.8


def examine(info: Mapping[str, object], settings: Mapping[str, str], skew_s: float, where: str) -> list[Finding]:
    """`info` and `settings`: what INFO and CONFIG GET * say; no settings where a host hides them."""
    version = str(info.get("redis_version", "0"))
    found = [Finding("ok", f"{where}: Redis {version}, {info.get('used_memory_human', '?')} used")]
    if tuple(int(part) for part in version.split(".")[:2]) < OLDEST:
        found.append(Finding("fix", f"Redis {version} is too old", f"Redis {OLDEST[0]}.{OLDEST[1]} or newer"))
    if info.get("role") not in (None, "master"):
        found.append(Finding("fix", f"it is a {info['role']}: writes are refused", "name the master"))
    if abs(skew_s) > LONGEST_SKEW_S:
        remedy = "keep the clocks together with chrony or ntpd"
        found.append(Finding("note", f"this machine's clock differs from the server's by {skew_s:+.0f} s", remedy))
    if not settings:
        found.append(Finding("note", "it hides its settings (CONFIG GET): check maxmemory-policy and appendonly there"))
    return [*found, *_memory(info, settings), *_durability(settings)] if settings else found


def _memory(info: Mapping[str, object], settings: Mapping[str, str]) -> Iterator[Finding]:
    policy, limit = settings.get("maxmemory-policy", "noeviction"), int(settings.get("maxmemory", "0"))
    if limit and policy != "noeviction":
        what = f"maxmemory-policy {policy} drops requests that still wait when memory is short"
        yield Finding("fix", what, "redis-cli config set maxmemory-policy noeviction, and in redis.conf")
    used = int(str(info.get("used_memory", 0)))
    if limit and used > SHORT_OF_MEMORY * limit:
        yield Finding(
            "fix", f"{used / limit:.0%} of maxmemory used; at all of it writes are refused", "raise maxmemory"
        )


def _durability(settings: Mapping[str, str]) -> Iterator[Finding]:
    if settings.get("appendonly") != "yes":
        what = "appendonly no: a crash loses everything since the last snapshot"
        yield Finding("fix", what, "redis-cli config set appendonly yes, and in redis.conf")
    elif settings.get("appendfsync") == "everysec":
        what = "appendfsync everysec: a crash of the machine loses up to the last second"
        yield Finding("note", what, "appendfsync always, at the price of a disk write each")
    elif settings.get("appendfsync") == "no":
        what = "appendfsync no: a crash of the machine loses what the system had not written yet, some 30 s"
        yield Finding("fix", what, "redis-cli config set appendfsync everysec, and in redis.conf")
