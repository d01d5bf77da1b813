"""The questions are held out, fixed and the same for every version; the answers survive the disk."""

from dataclasses import replace
from pathlib import Path

import pytest

from videogen.errors import ArtifactCorrupt
from videogen.evaluation import (
    EVALUATION_FILE,
    Answer,
    Candidate,
    Evaluation,
    evaluation_key,
    evaluation_prompts,
    read_evaluation,
)  # fmt: skip
from videogen.models.spec import ModelSpec
from videogen.resolve import ResolvedModel
from videogen.world.grammar import FIELDS, WORDS, is_held_out, vocabulary


def test_every_prompt_is_held_out_and_in_the_vocabulary() -> None:
    prompts = evaluation_prompts(600)
    words = set(vocabulary())
    assert all(is_held_out(prompt.attributes) for prompt in prompts)
    assert all(set(prompt.prompt.split()) <= words for prompt in prompts)
    assert len({prompt.attributes for prompt in prompts}) == 600


def test_prompts_are_the_same_every_time_and_a_longer_list_starts_with_a_shorter_one() -> None:
    assert evaluation_prompts(64) == evaluation_prompts(200)[:64]
    assert evaluation_prompts(4, "another protocol") != evaluation_prompts(4)
    assert len({prompt.seed for prompt in evaluation_prompts(200)}) == 200


def test_a_few_dozen_prompts_ask_for_every_value_of_every_attribute() -> None:
    asked = evaluation_prompts(64)
    for field in FIELDS:
        assert {getattr(prompt.attributes, field) for prompt in asked} == set(WORDS[field])


def test_more_prompts_than_held_out_combinations_come_again_in_other_words() -> None:
    prompts = evaluation_prompts(1600)
    first, again = prompts[0], next(p for p in prompts[1:] if p.attributes == prompts[0].attributes)
    assert first.seed != again.seed


def test_the_key_changes_with_everything_that_could_change_the_answers() -> None:
    keys = {
        evaluation_key(candidate(), 64),
        evaluation_key(candidate(version_digest="other weights"), 64),
        evaluation_key(candidate(engine_key="other engine"), 64),
        evaluation_key(candidate(batch_size=8), 64),
        evaluation_key(candidate(), 65),
        evaluation_key(candidate(), 64, "another protocol"),
    }
    assert len(keys) == 6


def candidate(version_digest: str = "weights", engine_key: str = "engine", batch_size: int = 1) -> Candidate:
    model = ResolvedModel("tiny@1", version_digest, Path(), ModelSpec("tiny"), {})
    return Candidate(model, engine_key, "cpu", "fp32", batch_size)


def answer(wanted: dict[str, str], seen: dict[str, str | None]) -> Answer:
    return Answer("a prompt", 7, wanted, seen, 0.5, "clips/000.mp4")


WANTED = {"size": "small", "colour": "red", "shape": "ring", "motion": "up", "background": "black"}


def evaluation(*answers: Answer) -> Evaluation:
    return Evaluation("tiny@1", "d" * 64, "e" * 64, "cpu", "fp32", "p", 12.5, answers, 4)


def test_one_wrong_attribute_spoils_the_clip_but_only_its_own_share() -> None:
    right, wrong = answer(WANTED, dict(WANTED)), answer(WANTED, {**WANTED, "shape": None})
    found = evaluation(right, wrong).agreement()
    assert found.joint.value == 0.5
    assert found.fields["shape"].value == 0.5
    assert found.fields["colour"].value == 1.0


def test_a_failed_clip_is_wrong_in_everything() -> None:
    failed = replace(answer(WANTED, {}), video=None, error="out of memory")
    found = evaluation(failed).agreement()
    assert not any(share.right for share in found.shares().values())


def test_an_evaluation_survives_the_disk_and_a_damaged_one_is_named(tmp_path) -> None:
    kept = evaluation(answer(WANTED, {**WANTED, "size": None}))
    (tmp_path / EVALUATION_FILE).write_text(kept.to_json())
    assert read_evaluation(tmp_path) == kept
    (tmp_path / EVALUATION_FILE).write_text(kept.to_json()[:-20])
    with pytest.raises(ArtifactCorrupt, match=EVALUATION_FILE):
        read_evaluation(tmp_path)


def test_a_wrong_word_is_told_with_what_was_seen_instead():
    wanted = {"shape": "star", "size": "small", "color": "blue"}
    answer = Answer("a little cobalt pentagram", 1, wanted, {"shape": "star", "size": "medium", "color": None}, 0.1)
    assert answer.verdicts() == [
        ("star", True), ("small, seen as medium", False), ("blue, seen as nothing it knows", False)
    ]  # fmt: skip
