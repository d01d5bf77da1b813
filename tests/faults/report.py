"""The page of runs and outcomes that `make test-faults` writes."""

import math
import os
from collections.abc import Sequence

from tests.benchmarks.shared import RESULTS, machine, table
from tests.faults.chaos import BETWEEN_S, DEAD_S, SERVER_STOP_S, WORKER_STOP_S, Outcome
from tests.faults.worker import LEASE_S

PAGE = RESULTS / "faults.md"
HEAD = "setting, seed, s, workers killed, stopped, server killed, stopped, accepted, answered, failed, lost, undone, "
HEAD += "window in ms, missed, fenced off, twice, torn, risen"
WORDS = """
Six processes at a time: two submit, three claim and publish, one reads and now and then cancels. Faults come in a
random order, up to {between:g} s apart. A lease lasts {lease:g} s; a claimer is stopped for {worker[0]:g} to
{worker[1]:g} s, a server for {server[0]:g} to {server[1]:g} s; a killed one is away for {dead[0]:g} to {dead[1]:g} s.
Every kill is a kill -9 of a process: the machine, and what its kernel still has to write, lives on. Each process notes
what it is told in a file outside the store, on disk before it goes on. At the end, when the workers that are left have
drained the store, the notes are held against it.

- *accepted* = *answered* (a video that is read, whole and its own) + *failed* (an end that says so; cancelled ones too)
  + *lost* (gone, or without its video).
- *undone*: published or ended, and again after a server came back. *window*: the longest time before a kill at which a
  promise was made that *lost* or *undone* counts; nothing older was touched.
- *missed*: readings that found nothing, or not the whole video, and were told so.
- *fenced off*: videos of workers that had lost their lease, refused.
- *twice*: second publications of one fingerprint. *torn*: videos that were served and were not what was published.
  *risen*: ends that were seen and did not last. All three outside of any window: *torn* must be 0 everywhere, the
  others everywhere but in the last row.
- The last row is a limit, not a promise: a node that hangs longer than the heartbeat's time-out of 1.5 s is left out,
  goes on as if it were not, and for a moment there are two truths. The community edition cannot do better;
  `strong-consistency`, of Enterprise, can.
- Community edition of Aerospike, in the configurations of `deploy/aerospike/`. It refuses `commit-to-device`, so
  `flush-max-ms` alone says how long an answered write of a lone node is not on disk.
"""


def write_page(outcomes: Sequence[Outcome]) -> None:
    """Writes the page, and prints it."""
    words = WORDS.format(between=BETWEEN_S, lease=LEASE_S, worker=WORKER_STOP_S, server=SERVER_STOP_S, dead=DEAD_S)
    kills = sum(outcome.setting.worker_kills for outcome in outcomes)
    minutes = sum(outcome.seconds for outcome in outcomes) / 60
    lines = ["# The store under faults", "", "`make test-faults`", "", f"{machine()}. {kills} workers killed in all,"]
    lines += [
        f"{minutes:.1f} minutes, under a load of {os.getloadavg()[2]:.0f}.",
        words.rstrip(),
        *table(HEAD.split(", "), [_row(outcome) for outcome in outcomes]),
    ]
    PAGE.write_text("\n".join(lines) + "\n")
    print(PAGE.read_text())


def _row(outcome: Outcome) -> list[object]:
    setting, found = outcome.setting, outcome.audit
    faults = [setting.worker_kills, setting.worker_stops, setting.server_kills, setting.server_stops]
    is_measured = (found.lost or found.undone) and math.isfinite(found.window_s)
    window = f"{1000 * found.window_s:.0f}" if is_measured else "–"
    return [
        *(setting.name, outcome.seed, f"{outcome.seconds:.0f}", *faults),
        *(found.accepted, found.answered, found.failed, found.lost, found.undone, window),
        *(found.missing, found.fenced, found.duplicates, found.torn, found.resurrected),
    ]
