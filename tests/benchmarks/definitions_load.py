"""How long the code location takes to load, over importing dagster alone: fresh processes in turns.

python -m tests.benchmarks.definitions_load
"""

import argparse
import statistics
import subprocess
import sys
import time

from tests.benchmarks.shared import table, write

CODE = {
    "dagster alone": "import dagster",
    "definitions": "import videogen_assets.definitions as d; d.defs().resolve_asset_graph()",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    taken: dict[str, list[float]] = {name: [] for name in CODE}
    for number in range(options.rounds + 1):
        for name, code in CODE.items():
            start = time.perf_counter()
            subprocess.run([sys.executable, "-c", code], check=True)
            if number:  # the first round fills the caches
                taken[name].append(time.perf_counter() - start)
    median = {name: statistics.median(values) for name, values in taken.items()}
    rows = [[name, f"{median[name]:.2f}", f"{min(values):.2f}", f"{max(values):.2f}"] for name, values in taken.items()]
    over = [b - a for a, b in zip(taken["dagster alone"], taken["definitions"], strict=True)]
    lines = [f"The definitions take {statistics.median(over):.2f} s over dagster alone (median of {options.rounds})."]
    head = ["process", "median s", "fastest", "slowest"]
    write("definitions_load", "Loading the definitions", __spec__.name, [*lines, *table(head, rows)])


if __name__ == "__main__":
    main()
