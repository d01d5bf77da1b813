"""A process that writes to two stores at once and notes, outside of them, each write that was accepted.

python -m tests.store.dual_writer URL JOURNAL NAME: it writes until it is killed.
"""

import itertools
import sys
from pathlib import Path

from videogen.errors import StoreUnavailable
from videogen.store.backends.catalog import open_records
from videogen.store.primitives import Add, MapPut, Set, Write


def main(url: str, journal: str, name: str) -> None:
    records = open_records(url)
    with Path(journal).open("a", buffering=1) as accepted:
        for number in itertools.count():
            own = Write("own", f"{name}-{number % 50}", (Set("n", number), MapPut(f"{number:06d}")))
            shared = Write("shared", "all", (Add("n", 1), MapPut(f"{name}-{number:06d}")))
            try:
                records.write_many([own, shared])
            except StoreUnavailable:
                continue
            accepted.write(f"{name}-{number % 50} {number:06d}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
