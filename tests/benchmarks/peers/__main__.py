"""`videogen serve` beside mosec, LitServe and PyTriton (Triton), on the same device under the same load.

    python -m tests.benchmarks.peers [--parts synthetic engine] [--peers mosec litserve pytriton] [--rounds 1]

Each peer is installed into an environment of its own under --venvs, and tuned there once per part: a few batch sizes,
windows, layouts and timeouts, the best kept for each load (--tune does it again). Then the systems take turns, each
started for the load with its settings for it and ended after. videogen has no settings but what its client says.
"""

import argparse
import asyncio
import tempfile
import time
from pathlib import Path

from tests.benchmarks.peers import page
from tests.benchmarks.peers.bench import NAMES, Bench
from tests.benchmarks.peers.installing import PACKAGES, NotInstalled, python_of, version
from tests.benchmarks.peers.systems import Device, Peer
from tests.benchmarks.shared import ROOT, write

PAGES = {"synthetic": "peers", "engine": "peers_engine"}
LOADS = ("closed", "goodput", "mix")
DURABLE = (
    "videogen records every request, claim and video in its store on the disk, and answers for it after a crash; the "
    "peers keep theirs in memory."
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=list(NAMES), default=list(NAMES))
    parser.add_argument("--peers", nargs="*", choices=list(PACKAGES), default=list(PACKAGES))
    parser.add_argument("--loads", nargs="+", choices=LOADS, default=LOADS)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=8.0, help="of an open loop; a closed one takes half of it")
    parser.add_argument("--venvs", type=Path, default=ROOT / "var" / "peers")
    parser.add_argument("--tune", action="store_true", help="look for each peer's best settings again")
    parser.add_argument("--no-page", action="store_true", help="print what was found, write no page")
    options = parser.parse_args()
    peers, versions, errors = {}, [], {}
    for name in options.peers:
        try:
            peers[name] = Peer(name, python_of(name, options.venvs))
            versions.append(f"{name} {version(name, peers[name].python)}")
        except NotInstalled as error:
            errors[name] = str(error)
    head = f"Beside {', '.join(versions)}. {options.rounds} round(s), medians. {DURABLE}"
    with tempfile.TemporaryDirectory(prefix="videogen-peers-") as folder:
        for kind in options.parts:
            begun = time.monotonic()
            part = asyncio.run(Bench(Device(kind), peers, Path(folder), options).run())
            part.errors |= errors
            found = [head, "", *page.lines(part)]
            if part.closed and not options.no_page:
                page.chart(part, PAGES[kind])
                found += [f"![videos a second over connections]({PAGES[kind]}.svg)", ""]
            found.append(f"All of it took {time.monotonic() - begun:.0f} s.")
            if options.no_page:
                print("\n".join(found))
            else:
                write(PAGES[kind], "Beside other model servers", "tests.benchmarks.peers", found)


if __name__ == "__main__":
    main()
