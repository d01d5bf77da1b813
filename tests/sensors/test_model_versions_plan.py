"""The planner alone, over tables of situations."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from sensors.model_versions import Known, ModelState, Seen, plan, read_cursor, write_cursor

NOW = 1_000.0


def _model(*digests, name="tiny", aliases=None, candidate=None, pointer=None, starts_over=False, first=1):
    versions = tuple(Seen(number, digest) for number, digest in enumerate(digests, start=first))
    by_number = {version.number: version for version in versions}
    return ModelState(
        name,
        versions,
        aliases=(aliases or {}) | ({"candidate": candidate} if candidate else {}),
        candidate=by_number.get(candidate),
        pointer=by_number.get(pointer),
        starts_over=starts_over,
    )


def _labels(planned):
    return [launch.label for launch in planned.launches]


def test_the_first_look_starts_everything_oldest_first():
    planned = plan({}, [_model("a" * 64, "b" * 64)], NOW)
    assert _labels(planned) == ["tiny@1", "tiny@2"]
    assert [launch.run_key for launch in planned.launches] == ["tiny@1:aaaaaaaaaaaa", "tiny@2:bbbbbbbbbbbb"]
    assert (planned.cursor["tiny"].max_version, planned.cursor["tiny"].digest) == (2, "b" * 64)


def test_a_second_look_starts_nothing_and_changes_nothing():
    first = plan({}, [_model("a", "b", candidate=1)], NOW)
    second = plan(first.cursor, [_model("a", "b", candidate=1)], NOW + 15)
    assert second.launches == ()
    assert second.cursor == first.cursor
    assert second.looked_at == "1 models (tiny up to 2)"


def test_a_burst_is_spread_over_ticks_and_models_take_turns():
    burst, one = _model(*"abcdef", name="burst"), _model("x", name="one")
    seen, cursor = [], {}
    for _ in range(5):
        planned = plan(cursor, [burst, one], NOW, limit=2)
        seen.append(_labels(planned))
        cursor = planned.cursor
    assert seen == [["burst@1", "one@1"], ["burst@2", "burst@3"], ["burst@4", "burst@5"], ["burst@6"], []]
    assert "4 more versions next time" in plan({}, [burst], NOW, limit=2).looked_at


def test_a_version_without_a_manifest_is_named_and_not_started():
    planned = plan({}, [_model("a", None, "c")], NOW)
    assert _labels(planned) == ["tiny@1", "tiny@3"]
    assert "1 without a manifest, not started: tiny@2" in planned.looked_at
    assert plan(planned.cursor, [_model("a", None, "c")], NOW).looked_at == "1 models (tiny up to 3)"


def test_a_person_asks_with_the_candidate_alias_as_often_as_they_like():
    cursor, keys = plan({}, [_model("a", "b")], NOW).cursor, []
    for candidate in (1, 1, 2, 1, None, 1):
        planned = plan(cursor, [_model("a", "b", candidate=candidate)], NOW)
        keys += [launch.run_key for launch in planned.launches]
        cursor = planned.cursor
    asked = ["tiny@1:a", "tiny@2:b", "tiny@1:a", "tiny@1:a"]
    assert keys == [f"{label}:candidate-{number}" for number, label in enumerate(asked, start=1001)]


def test_a_new_version_that_is_candidate_too_runs_once():
    assert _labels(plan({}, [_model("a", candidate=1)], NOW)) == ["tiny@1"]
    cursor = plan({}, [_model("a")], NOW).cursor
    assert _labels(plan(cursor, [_model("a", "b", candidate=2)], NOW)) == ["tiny@2"]


def test_a_wish_for_which_there_is_no_room_is_not_forgotten():
    cursor = plan({}, [_model("a")], NOW).cursor
    crowded = _model("a", "b", "c", candidate=1)
    planned = plan(cursor, [crowded], NOW, limit=2)
    assert _labels(planned) == ["tiny@2", "tiny@3"]
    planned = plan(planned.cursor, [crowded], NOW, limit=2)
    assert _labels(planned) == ["tiny@1"]
    assert plan(planned.cursor, [crowded], NOW, limit=2).launches == ()


def test_a_wish_about_a_version_that_has_to_wait_comes_with_it():
    crowded, cursor, seen = _model("a", "b", "c", candidate=3), {}, []
    for _ in range(4):
        planned = plan(cursor, [crowded], NOW, limit=2)
        seen += _labels(planned)
        cursor = planned.cursor
    assert seen == ["tiny@1", "tiny@2", "tiny@3"]


def test_a_wish_about_a_version_without_a_manifest_is_followed():
    (launch,) = plan({}, [_model(None, candidate=1)], NOW).launches
    assert launch.run_key == "tiny@1:no-manifest:candidate-1001"


def test_a_lost_cursor_gives_versions_their_old_keys_and_wishes_new_ones():
    models = [_model("a", "b", candidate=1)]
    first = plan({}, [_model("a", "b")], NOW)
    wish = plan(first.cursor, models, NOW)
    again = plan({}, models, NOW + 60)
    assert [launch.run_key for launch in again.launches] == [launch.run_key for launch in first.launches]
    moved = plan(again.cursor, [_model("a", "b", candidate=2)], NOW + 60)
    back = plan(moved.cursor, models, NOW + 60)
    assert {launch.run_key for launch in wish.launches}.isdisjoint(launch.run_key for launch in back.launches)


def test_numbers_that_start_again_run_by_their_content():
    cursor = plan({}, [_model("a", "b", "c")], NOW).cursor
    planned = plan(cursor, [_model("x", starts_over=True)], NOW)
    assert [launch.run_key for launch in planned.launches] == ["tiny@1:x"]
    assert planned.cursor["tiny"].max_version == 1


def test_a_model_whose_versions_are_all_gone():
    cursor = plan({}, [_model("a")], NOW).cursor
    planned = plan(cursor, [_model(starts_over=True)], NOW)
    assert planned.launches == ()
    assert planned.cursor["tiny"].max_version == 0


def test_the_alias_follows_the_pointer_and_that_starts_nothing():
    cursor = plan({}, [_model("a", "b")], NOW).cursor
    drifted = plan(cursor, [_model("a", "b", aliases={"champion": 1}, pointer=2)], NOW)
    assert drifted.mends == {"tiny": 2}
    assert drifted.launches == ()
    assert "alias champion follows the store again: tiny" in drifted.looked_at
    mended = plan(drifted.cursor, [_model("a", "b", aliases={"champion": 2}, pointer=2)], NOW)
    assert (mended.mends, mended.launches, mended.cursor) == ({}, (), drifted.cursor)


def test_a_champion_alias_that_nothing_was_promoted_for_is_left_alone_and_named():
    planned = plan({}, [_model("a", aliases={"champion": 1})], NOW)
    assert planned.mends == {}
    assert "alias champion without a champion in the store, left alone: tiny" in planned.looked_at


def test_the_cursor_reads_back():
    cursor = {"tiny": Known(3, "abc", {"champion": 2}, 1001), "other": Known()}
    assert read_cursor(write_cursor(cursor)) == cursor
    assert read_cursor(None) == {}


def test_no_models():
    assert plan({}, [], NOW).looked_at == "no models in MLflow"


@given(
    bursts=st.lists(st.tuples(st.sampled_from("abc"), st.booleans(), st.integers(1, 8)), max_size=30),
    limit=st.integers(1, 4),
)
def test_whatever_arrives_each_version_runs_exactly_once(bursts, limit):
    models = {name: _model(name=name) for name in "abc"}
    cursor, started = {}, []
    arrivals = [*bursts, *[None] * 40]
    for arrival in arrivals:
        if arrival:
            name, wished, candidate = arrival
            model = models[name]
            versions = (*model.versions, Seen(len(model.versions) + 1, f"{name}{len(model.versions)}"))
            if wished and candidate <= len(versions):
                model = replace(model, aliases={"candidate": candidate}, candidate=versions[candidate - 1])
            models[name] = replace(model, versions=versions)
        planned = plan(cursor, list(models.values()), NOW, limit)
        assert len(planned.launches) <= limit
        started += planned.launches
        cursor = planned.cursor
    by_version = [launch.label for launch in started if launch.reason == "new version"]
    assert sorted(by_version) == sorted(f"{m.name}@{v.number}" for m in models.values() for v in m.versions)
    assert len({launch.run_key for launch in started}) == len(started)
