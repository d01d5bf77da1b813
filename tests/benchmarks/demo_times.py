"""`make demo` from nothing, and again: wall time by phase, and peak memory.

python -m tests.benchmarks.demo_times
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from deploy.local.timings import read_tellings
from tests.benchmarks.shared import ROOT, table, write


def tell(home: Path) -> tuple[float, dict[str, Any]]:
    """Wall seconds of one telling, and what it wrote about itself."""
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "deploy.local.demo"],
        cwd=ROOT,
        check=True,
        env={**os.environ, "VIDEOGEN_HOME": str(home)},
    )
    return time.perf_counter() - start, read_tellings(home / "demo" / "timings.json")[-1]


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    with tempfile.TemporaryDirectory() as folder:
        first, again = tell(Path(folder)), tell(Path(folder))
    rows: list[list[object]] = [
        [
            a["name"],
            f"{a['seconds']:.1f}",
            f"{a['peak_memory'] / 2**30:.2f}",
            f"{b['seconds']:.1f}",
            "yes" if b["reused"] else "no",
        ]
        for a, b in zip(first[1]["phases"], again[1]["phases"], strict=True)
    ]
    peak = max(found["peak_memory"] for _, found in (first, again)) / 2**30
    whole, rerun = f"{first[0]:.0f}", f"{again[0]:.0f}"
    lines = [f"From nothing (installed already) **{whole} s**, again **{rerun} s**; at most {peak:.1f} GiB resident,"]
    lines += ["summed over all processes, so that shared pages count once for each."]
    head = ["phase", "first s", "peak GiB", "again s", "reused"]
    write("demo", "`make demo` from nothing, and again", __spec__.name, [*lines, *table(head, rows)])


if __name__ == "__main__":
    main()
