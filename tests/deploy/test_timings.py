import subprocess
import sys
import time

from deploy.local.timings import Timings, read_tellings

HUNGRY = "import sys; block = b'x' * (120 << 20); print('full', flush=True); sys.stdin.read()"


def test_a_phase_knows_its_time_and_the_memory_of_its_children(tmp_path):
    with Timings() as timings:
        with timings.phase("small"):
            time.sleep(0.2)
        with timings.phase("hungry") as phase:
            with subprocess.Popen([sys.executable, "-c", HUNGRY], stdin=-1, stdout=-1, text=True) as child:
                child.stdout.readline()
                time.sleep(0.8)  # longer than one sample
                child.communicate("")
            phase["reused"] = True
    timings.write(tmp_path / "demo" / "timings.json")
    (stored,) = read_tellings(tmp_path / "demo" / "timings.json")
    small, hungry = stored["phases"]
    assert 0.2 <= small["seconds"] < 2
    assert hungry["peak_memory"] - small["peak_memory"] > 100 << 20
    assert (small["reused"], hungry["reused"]) == (False, True)
    assert stored["peak_memory"] == hungry["peak_memory"]


def test_a_later_telling_leaves_the_times_of_those_before_it(tmp_path):
    path = tmp_path / "timings.json"
    assert read_tellings(path) == []
    for name in ("first", "again"):
        with Timings() as timings, timings.phase(name):
            pass
        timings.write(path)
    assert [[phase["name"] for phase in told["phases"]] for told in read_tellings(path)] == [["first"], ["again"]]
    assert [entry.name for entry in tmp_path.iterdir()] == ["timings.json"]
