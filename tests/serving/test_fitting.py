"""Room for a version, by what those that are loaded take: real files, this process's memory, a container's limits."""

import os

import psutil

from videogen.artifacts import Artifacts
from videogen.devices import cpu
from videogen.resolve import WEIGHTS
from videogen.serving.versions.fitting import fits, left_to_container

MIB = 2**20


def keep(artifacts: Artifacts, digest: str, size: int) -> str:
    artifacts.build(WEIGHTS, digest, lambda folder: (folder / "weights.safetensors").write_bytes(bytes(size)))
    return digest


def test_a_version_is_expected_to_take_what_the_loaded_ones_do_by_its_size(tmp_path):
    artifacts, mine = Artifacts(str(tmp_path)), psutil.Process().memory_info().rss
    there = keep(artifacts, "a" * 64, 1000)
    assert fits(keep(artifacts, "b" * 64, 1000), [there], os.getpid(), artifacts, cpu())
    times = 2 * psutil.virtual_memory().total // mine
    large = keep(artifacts, "c" * 64, 1000 * times)
    assert not fits(large, [there], os.getpid(), artifacts, cpu())
    assert fits(large, [], os.getpid(), artifacts, cpu())


def test_a_containers_limit_counts_what_it_cannot_drop(tmp_path):
    assert left_to_container(tmp_path) > 2**62
    for name, text in {"max": "max", "current": str(600 * MIB), "stat": f"anon 5\ninactive_file {100 * MIB}\n"}.items():
        (tmp_path / f"memory.{name}").write_text(text)
    assert left_to_container(tmp_path) > 2**62
    (tmp_path / "memory.max").write_text(f"{1000 * MIB}\n")
    assert left_to_container(tmp_path) == 500 * MIB
