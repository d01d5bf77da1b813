"""Long work is told part by part: while it goes on, at its end, and where it waits for somebody else's."""

import re
import shutil
import threading
import time
from collections.abc import Callable

import pytest

from tests.fixtures.random_models import write_random_tiny
from videogen.artifacts import Artifacts
from videogen.engines.builders import builder_for
from videogen.engines.cache import ENGINE_KIND, ensure_engine, ensure_engine_of, ensure_graph
from videogen.locks import file_lock
from videogen.manifest import build_manifest
from videogen.telling import Telling


class Quick(Telling):
    SOON_S, EVERY_S = 0.2, 0.5


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_part_is_told_soon_then_at_intervals_then_at_its_end():
    told: list[tuple[float, str]] = []
    started = time.monotonic()
    with Quick(lambda text: told.append((time.monotonic() - started, text))).part("counting"):
        until(lambda: len(told) == 2)
    (soon, first), (later, second), (_, last) = told
    assert soon >= Quick.SOON_S and later - soon >= Quick.EVERY_S
    assert re.fullmatch(r"counting: \d+ s so far", first) and re.fullmatch(r"counting: \d+ s so far", second)
    assert re.fullmatch(r"counting: done in \d+\.\d s", last)


def test_a_short_part_is_one_line_and_one_that_is_worth_a_word_only_when_long_is_none():
    told: list[str] = []
    telling = Telling(told.append)
    with telling.part("counting"), telling.part("looking", if_long=True):
        pass
    assert [text.partition(" in ")[0] for text in told] == ["counting: done"]


def test_a_part_that_is_counted_tells_how_far_it_is_and_what_is_left():
    told: list[str] = []
    with Quick(told.append).part("counting") as count:
        count(1, 4)
        until(lambda: told)
        count(2, 4)
        until(lambda: len(told) == 2)
    seen = [re.fullmatch(r"counting: \d+ s so far, (\d) of 4, about (\d+) s left", text) for text in told[:2]]
    assert [one and one[1] for one in seen] == ["1", "2"], told
    assert seen[0] and int(seen[0][2]) == pytest.approx(3 * Quick.SOON_S, abs=1)


def test_what_fails_ends_untold_and_so_do_its_reminders():
    told: list[str] = []
    with pytest.raises(ValueError, match="lost count"), Quick(told.append).part("counting"):
        raise ValueError("lost count")
    time.sleep(2 * Quick.SOON_S)
    assert not told


@pytest.mark.slow
def test_what_is_built_is_told_and_who_waits_for_anothers_build_is_told_that(tmp_path, skeletons):
    folder, artifacts = write_random_tiny(tmp_path / "model"), Artifacts(str(tmp_path / "artifacts"))
    shutil.copytree(skeletons, artifacts.root / skeletons.name)
    digest, builder, told = build_manifest(folder).digest, builder_for("onnxruntime"), list[str]()
    stored = ensure_engine(artifacts, folder, digest, builder, "fp32", Quick(told.append).part)
    done = [text.partition(": done")[0] for text in told if "done" in text]
    assert done == ["exporting the graphs in fp32", "building onnxruntime fp32"], told

    graphs, told = ensure_graph(artifacts, folder, digest), list[str]()
    there, build_is_over = threading.Event(), threading.Event()

    def build() -> None:
        with file_lock(artifacts.root / ".locks" / f"{ENGINE_KIND}--{stored.key.digest}"):
            there.set()
            build_is_over.wait(30)

    other = threading.Thread(target=build)
    other.start()
    assert there.wait(10)
    threading.Thread(target=lambda: (until(lambda: told), build_is_over.set())).start()
    assert not ensure_engine_of(artifacts, graphs, builder, "fp32", Quick(told.append).part).built
    other.join()
    looking = "building onnxruntime fp32: looking for what is there, or is being made"
    assert told[0] == f"{looking}: 0 s so far"
    assert told[-1].startswith(f"{looking}: done in ")
