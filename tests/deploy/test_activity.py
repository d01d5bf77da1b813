import io
import time

from rich.console import Console

from deploy.local.activity import Activity


def test_a_log_file_gets_a_line_now_and_then_with_the_seconds_or_the_words_that_were_told():
    out = io.StringIO()
    with Activity(Console(file=out, width=200), "registering [1]", quiet_s=0.05) as activity:
        until(lambda: "registering [1], 0 s" in out.getvalue())
        activity.tell("engine, 3 s")
        until(lambda: "… engine, 3 s" in out.getvalue())
    told = out.getvalue()
    time.sleep(0.2)
    assert out.getvalue() == told


def test_a_terminal_gets_one_line_that_moves_and_goes():
    out = io.StringIO()
    with Activity(Console(file=out, width=200, force_terminal=True), "registering", quiet_s=0.05) as activity:
        until(lambda: "registering, 0 s" in out.getvalue())
        activity.tell("engine, 3 s")
        until(lambda: "engine, 3 s" in out.getvalue())
    assert "…" not in out.getvalue() and out.getvalue().endswith("\x1b[2K")


def until(happens):
    deadline = time.monotonic() + 30
    while not happens():
        assert time.monotonic() < deadline
        time.sleep(0.02)
