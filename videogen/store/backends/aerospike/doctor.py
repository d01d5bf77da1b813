"""What an Aerospike cluster has to be set to for the store, and how to set it so."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from videogen.findings import Finding
from videogen.store.primitives import MAX_PAYLOAD
from videogen.words import counted

LONGEST_SKEW_S = 5.0
LOSS_MS = 100
SHORT_OF_SPACE_PCT = 20
ROOM = 4096
"""Bytes of a record beside its payload."""

Info = Callable[[str], Mapping[str, str]]
"""A command to every node -> its answer by node."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """What one look at a cluster found. `namespaces`: those that the store uses, settings and statistics by node."""

    builds: Mapping[str, str]
    editions: Mapping[str, str]
    namespaces: Mapping[str, Mapping[str, Mapping[str, str]]]
    statistics: Mapping[str, Mapping[str, str]]
    skew_s: float
    where: str

    @property
    def is_community(self) -> bool:
        return any("Community" in edition for edition in self.editions.values())


def look(info: Info, namespaces: tuple[str, ...], skew_s: float, where: str) -> Cluster:
    """Asks every node."""
    return Cluster(
        info("build"),
        info("edition"),
        {name: {node: pairs(text) for node, text in info(f"namespace/{name}").items()} for name in namespaces},
        {node: pairs(text) for node, text in info("statistics").items()},
        skew_s,
        where,
    )


def examine(cluster: Cluster) -> list[Finding]:
    """Every finding, the cluster's first."""
    findings = list(_of_cluster(cluster))
    for name, nodes in cluster.namespaces.items():
        for node, facts in nodes.items():
            findings += _of_namespace(cluster, f"{name} on {node}", name, facts)
    return findings


def _of_cluster(cluster: Cluster) -> Iterator[Finding]:
    edition = "community edition" if cluster.is_community else "Enterprise"
    builds = sorted(set(cluster.builds.values()))
    nodes = counted(len(cluster.builds), "node")
    yield Finding("ok", f"{cluster.where}: {nodes} of Aerospike {edition}, {', '.join(builds)}")
    if len(builds) > 1:
        yield Finding("note", f"nodes of several versions: {', '.join(builds)}", "finish the upgrade")
    sizes = {node: facts.get("cluster_size", "?") for node, facts in cluster.statistics.items()}
    if len(set(sizes.values())) > 1 or any(size != str(len(sizes)) for size in sizes.values()):
        seen = ", ".join(f"{node} sees {size}" for node, size in sizes.items())
        yield Finding(
            "fix", f"the nodes do not agree on who is there: {seen}", "check mesh-seed-address-port and ports"
        )
    between = max((int(facts.get("cluster_clock_skew_ms", "0")) for facts in cluster.statistics.values()), default=0)
    if between > 1000 * LONGEST_SKEW_S:
        yield Finding("fix", f"the nodes' clocks differ by {between / 1000:.0f} s: leases run out early or late", NTP)
    if abs(cluster.skew_s) > LONGEST_SKEW_S:
        yield Finding("note", f"this machine's clock differs from the server's by {cluster.skew_s:+.0f} s", NTP)


NTP = "keep the clocks together with chrony or ntpd"


def _of_namespace(cluster: Cluster, where: str, name: str, facts: Mapping[str, str]) -> Iterator[Finding]:
    if "objects" not in facts:
        yield Finding("fix", f"{where}: there is no such namespace", "name one that is there in VIDEOGEN_STORE_URL")
        return
    fixes = [*_expiry(name, facts), *_sizes(name, facts), *_durability(cluster, name, facts), *_space(name, facts)]
    if not any(finding.state == "fix" for finding in fixes):
        used, copies = facts.get("data_used_pct", "?"), facts.get("effective_replication_factor", "1")
        storage, held = facts.get("storage-engine", "?"), counted(int(copies), "copy", "copies")
        yield Finding("ok", f"{where}: {storage}, {held}, {used} % used, {facts.get('objects', '?')} records")
    yield from (Finding(one.state, f"{where}: {one.what}", one.remedy) for one in fixes)


def _set(name: str, setting: str) -> str:
    parameter = setting.partition("=")[0]
    command = f"asinfo -v 'set-config:context=namespace;namespace={name};{setting}'"
    return f"{command}, and {parameter} in its configuration"


def _expiry(name: str, facts: Mapping[str, str]) -> Iterator[Finding]:
    if facts.get("nsup-period") == "0" and facts.get("allow-ttl-without-nsup") != "true":
        yield Finding("fix", "nsup-period 0 refuses every write with a time to live", _set(name, "nsup-period=10"))
    elif facts.get("nsup-period") == "0":
        yield Finding("fix", "nsup-period 0 keeps what has expired for ever", _set(name, "nsup-period=10"))
    if facts.get("default-ttl", "0") != "0":
        what = f"default-ttl {facts['default-ttl']}: requests that still wait would disappear after that"
        yield Finding("fix", what, _set(name, "default-ttl=0"))


def _sizes(name: str, facts: Mapping[str, str]) -> Iterator[Finding]:
    most = int(facts.get("max-record-size", "0") or 0)
    if most and most < MAX_PAYLOAD + ROOM:
        what = f"max-record-size {most:,}: the store writes records of up to {MAX_PAYLOAD + ROOM:,} bytes"
        yield Finding("fix", what, _set(name, "max-record-size=1M"))


def _durability(cluster: Cluster, name: str, facts: Mapping[str, str]) -> Iterator[Finding]:
    copies, engine = int(facts.get("effective_replication_factor", "1")), facts.get("storage-engine")
    if copies < 2 and cluster.is_community:
        yield Finding(
            "note", "one copy of each record: a lost node loses what it held", "three nodes, replication-factor 2"
        )
    if facts.get("strong-consistency") == "true":
        return
    on_disk = any(key.startswith(("storage-engine.file[", "storage-engine.device[")) for key in facts)
    if not on_disk:
        what = "in memory alone: a restart of all nodes loses everything"
        yield Finding("fix", what, "storage-engine device, or a file in storage-engine memory, in its configuration")
    elif int(facts.get("storage-engine.flush-max-ms", "0")) > LOSS_MS:
        what = f"flush-max-ms {facts['storage-engine.flush-max-ms']}: a killed node loses as many ms of answered writes"
        yield Finding("fix", what, _set(name, "flush-max-ms=10"))
    if on_disk and engine and cluster.is_community:
        yield Finding("note", "deleted records come back when a node restarts; the store does not mind", "")


def _space(name: str, facts: Mapping[str, str]) -> Iterator[Finding]:
    if facts.get("stop_writes") == "true" or facts.get("clock_skew_stop_writes") == "true":
        yield Finding("fix", "it refuses writes (stop_writes)", "add nodes or disk, or let less be kept")
        return
    used, limit = int(facts.get("data_used_pct", "0")), int(facts.get("storage-engine.stop-writes-used-pct", "100"))
    if used > limit - SHORT_OF_SPACE_PCT:
        yield Finding("fix", f"{used} % used; at {limit} % it refuses writes", "add nodes or disk, or let less be kept")
    if facts.get("storage-engine.evict-used-pct", "0") != "0":
        what = f"evict-used-pct {facts['storage-engine.evict-used-pct']}: it may drop records before their time"
        yield Finding("fix", what, _set(name, "evict-used-pct=0"))


def pairs(text: str) -> dict[str, str]:
    pairs = (part.partition("=") for part in text.strip().split(";"))
    return {key: value for key, _, value in pairs}
