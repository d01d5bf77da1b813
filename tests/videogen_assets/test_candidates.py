"""Whom an engine is measured against."""

from pathlib import Path

import dagster as dg
import pytest

from videogen.evaluation import Candidate
from videogen.models.spec import ModelSpec
from videogen.resolve import ResolvedModel
from videogen.store.records import Champion, ServedEngine
from videogen_assets.models.candidates import Contest
from videogen_assets.models.promotion import dropped, refuse_to_drop


def engine(version: int, target: str) -> Candidate:
    spec = ModelSpec("videogen-tiny")
    return Candidate(
        ResolvedModel(f"m@{version}", str(version), Path(), spec, {}), f"{version} {target}", target, "fp32"
    )


def test_videos_are_compared_with_the_champions_of_the_first_target_that_both_have():
    own = (engine(2, "cpu"), engine(2, "tensorrt"))
    assert Contest(own, None, ()).rival is None
    assert Contest(own, None, (engine(1, "tensorrt"), engine(1, "cpu"))).rival == engine(1, "cpu")
    assert Contest(own, None, (engine(1, "tensorrt"),)).rival == engine(1, "tensorrt")
    assert Contest(own[:1], None, (engine(1, "tensorrt"),)).rival == engine(1, "tensorrt")


def test_time_is_compared_within_one_target_only():
    contest = Contest((engine(2, "cpu"), engine(2, "tensorrt")), None, (engine(1, "cpu"),))
    assert contest.rival_on("cpu") == engine(1, "cpu")
    assert contest.rival_on("tensorrt") is None


def test_a_target_that_serves_is_not_dropped_unless_somebody_says_so():
    served = ServedEngine("key", "fp32", "report")
    before = Champion("1", "m@1", {"cpu": served, "tensorrt": served})
    after = Champion("2", "m@2", {"cpu": served})
    contest = Contest((engine(2, "cpu"),), before, ())
    assert dropped(contest, after) == {"tensorrt"}
    with pytest.raises(dg.Failure, match=r"m@2 would leave tensorrt without an engine.*drop: \[tensorrt\]"):
        refuse_to_drop(contest, after, ["cpu"])
    refuse_to_drop(contest, after, ["tensorrt"])
    refuse_to_drop(contest, before, [])
    refuse_to_drop(Contest((engine(2, "cpu"),), None, ()), after, [])
