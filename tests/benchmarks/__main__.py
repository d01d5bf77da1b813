"""`make bench`: what the README reports of this machine, one after the other, each in a process of its own.

Not what takes other servers (`peers`), a GPU (`gpu_steps`, `gpu_decoders`) or kills (`make test-soak`, `-faults`).

python -m tests.benchmarks [NAME ...]
"""

import argparse
import subprocess
import sys

SHIPPED = "models/videogen-tiny"
BENCHMARKS: dict[str, tuple[str, ...]] = {
    "definitions_load": (),
    "oracle_accuracy": (),
    "engine_speed": (),
    "throughput": (),
    "drain_overhead": (),
    "demo_times": (),
    "store": (),
    "queue_depth": (),
    "scheduler_decision": (),
    "prebatching": (),
    "simulated_scale": (),
    "simulated_service": (),
    "service_rate": (),
    "dual_write": (),
    "cache_policy": (),
    "gates_power": ("--champion", f"{SHIPPED}/1", "--candidate", f"{SHIPPED}/2", "--target", "openvino"),
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"some of {', '.join(BENCHMARKS)}; all by default")
    names = parser.parse_args().names
    if unknown := set(names) - set(BENCHMARKS):
        parser.error(f"NAME: got {', '.join(sorted(unknown))}; allowed: {', '.join(BENCHMARKS)}")
    for name in names or BENCHMARKS:
        subprocess.run([sys.executable, "-m", f"tests.benchmarks.{name}", *BENCHMARKS[name]], check=True)


if __name__ == "__main__":
    main()
