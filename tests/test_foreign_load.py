import subprocess
import sys
import time

import psutil

from videogen.foreign_load import MOST, ForeignLoad

SPIN = "import time; end = time.monotonic() + 30\nwhile time.monotonic() < end: pass"


def test_others_that_keep_the_processors_busy_are_seen():
    spinning = [subprocess.Popen([sys.executable, "-c", SPIN]) for _ in range(psutil.cpu_count() or 1)]
    try:
        time.sleep(0.5)
        load = ForeignLoad()
        time.sleep(1.5)
        assert load.share() > MOST
    finally:
        for process in spinning:
            process.kill()


def test_own_work_is_not_foreign():
    load, end = ForeignLoad(), time.monotonic() + 1.0
    while time.monotonic() < end:
        pass
    own = psutil.Process().cpu_times()
    assert own.user > 0 and load.share() <= 1 - 0.5 / (psutil.cpu_count() or 1)
