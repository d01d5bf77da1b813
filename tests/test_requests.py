import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from videogen import requests
from videogen.errors import InvalidRequest, UnknownWord
from videogen.models.spec import ModelSpec
from videogen.models.tiny_tokenizer import TinyTokenizer
from videogen.requests import AcceptedRequest, Request, accept, canonical, fingerprint, new_id, parse_request
from videogen.world.grammar import vocabulary

SPEC = ModelSpec("videogen-tiny")
DIGEST = "d" * 64
WORDS = vocabulary()


def take(digest=DIGEST, spec=SPEC, **fields):
    return accept(
        Request(**({"prompt": "a red ball moving up"} | fields)), spec, digest, WORDS, label="videogen-tiny@2"
    )


def test_what_is_left_open_is_filled_from_the_spec_and_the_seed_is_drawn():
    found = take()
    values = found.request.model_dump()
    assert {name: values[name] for name in requests.FILLED} == {
        "width": 64, "height": 64, "num_frames": 16, "fps": 8, "num_inference_steps": 20, "guidance_scale": 2.5,
    }  # fmt: skip
    assert 0 <= found.request.seed < 2**32
    assert found.label == "videogen-tiny@2" and found.version_digest == DIGEST
    assert len({take().request.seed for _ in range(20)}) > 15


def test_what_is_given_is_kept():
    found = take(seed=7, num_inference_steps=5, guidance_scale=1, metadata={"job": 3}, deadline=60).request
    assert (found.seed, found.num_inference_steps, found.guidance_scale) == (7, 5, 1.0)
    assert found.metadata == {"job": 3} and found.deadline == 60.0


BAD = [
    ({"prompt": ""}, "prompt", "not empty"),
    ({"prompt": "  \n"}, "prompt", "not empty"),
    ({"prompt": "..."}, "prompt", "in words"),
    ({"prompt": "red " * 2500}, "prompt", "4,000 characters"),
    ({"prompt": "red " * 20}, "prompt", "at most 19 words, this has 20"),
    ({"prompt": "a red\x00 ball"}, "prompt", "control"),
    ({"prompt": 3}, "prompt", "text"),
    ({"prompt": None}, "prompt", "text"),
    ({"negative_prompt": "red " * 20}, "negative_prompt", "at most 19 words"),
    ({"width": 65}, "width", "64"),
    ({"width": "64"}, "width", "whole number"),
    ({"height": 0}, "height", "64"),
    ({"num_frames": 17}, "num_frames", "16"),
    ({"num_frames": 16.5}, "num_frames", "whole number"),
    ({"num_frames": True}, "num_frames", "whole number"),
    ({"fps": 0}, "fps", "from 1 to 60"),
    ({"num_inference_steps": 0}, "num_inference_steps", "from 1 to 50"),
    ({"num_inference_steps": 51}, "num_inference_steps", "from 1 to 50"),
    ({"guidance_scale": 0.5}, "guidance_scale", "from 1 to 10"),
    ({"guidance_scale": 10.5}, "guidance_scale", "from 1 to 10"),
    ({"guidance_scale": float("nan")}, "guidance_scale", "from 1 to 10"),
    ({"guidance_scale": "high"}, "guidance_scale", "a number"),
    ({"seed": -1}, "seed", "from 0 to 9007199254740991"),
    ({"seed": 2**53}, "seed", "from 0 to 9007199254740991"),
    ({"seed": 1.5}, "seed", "whole number"),
    ({"deadline": 0}, "deadline", "a number from"),
    ({"deadline": float("inf")}, "deadline", "a number from"),
    ({"lane": "fast"}, "lane", "batch or interactive"),
    ({"priority": "urgent"}, "priority", "interactive, standard or batch"),
    ({"schema_version": 2}, "schema_version", "1"),
    ({"inputs": ["abc"]}, "inputs", "empty list"),
    ({"adapters": ["style"]}, "adapters", "empty list"),
    ({"postprocess": "upscale"}, "postprocess", "a list"),
    ({"tenant": ""}, "tenant", "1 to 64 letters"),
    ({"tenant": "a/b"}, "tenant", "1 to 64 letters"),
    ({"metadata": {"a": [1]}}, "metadata", "object"),
    ({"metadata": {"a": "x" * 5000}}, "metadata", "4,096"),
]


@pytest.mark.parametrize(("fields", "field", "allowed"), BAD, ids=lambda value: str(value)[:30])
def test_bad_input_gets_one_error_that_names_field_given_and_allowed(fields, field, allowed):
    with pytest.raises(InvalidRequest) as caught:
        take(**fields)
    assert caught.value.field == field
    assert allowed in caught.value.allowed
    assert str(caught.value).startswith(f"{field}: got ")
    assert len(str(caught.value)) < 400


def test_a_missing_prompt_is_named():
    with pytest.raises(InvalidRequest, match="prompt"):
        Request()


def test_an_unknown_field_is_refused_with_the_nearest_name():
    with pytest.raises(
        InvalidRequest, match=r"inference_steps: got 4; allowed: did you mean num_inference_steps\?"
    ) as caught:
        parse_request({"prompt": "a red ball", "inference_steps": 4})
    assert "guidance_scale" in caught.value.allowed
    with pytest.raises(InvalidRequest, match=r"did you mean guidance_scale\?"):
        parse_request({"prompt": "a red ball", "guidance": 4})
    with pytest.raises(InvalidRequest, match="allowed: the fields are: "):
        parse_request({"prompt": "a red ball", "zzz": 4})


def test_an_unknown_word_is_named_with_what_the_model_knows():
    with pytest.raises(
        UnknownWord, match=r"prompt: got 'baal'; allowed: did you mean ball.*the model knows: .*triangle"
    ):
        take(prompt="a red Baal moving up")
    with pytest.raises(UnknownWord, match="negative_prompt"):
        take(negative_prompt="blurry")


def test_a_model_without_a_closed_vocabulary_takes_any_word():
    accept(Request(prompt="Ein rötlicher Ball, 球"), SPEC, DIGEST)


@given(st.lists(st.sampled_from([*WORDS[:30], "dog", ",", "Red.", "(blue)", "--"]), min_size=1, max_size=25))
def test_acceptance_and_the_tokenizer_agree_on_what_can_be_read(words):
    text = " ".join(words)

    def outcome(read):
        try:
            read()
        except InvalidRequest as error:
            return type(error), error.field
        return None

    tokenizer = TinyTokenizer(WORDS)
    if requests.split_words(text):
        assert outcome(lambda: take(prompt=text)) == outcome(lambda: tokenizer.tokenize(text))


def test_the_fingerprint_is_of_what_decides_the_video_and_of_nothing_else():
    base = take(seed=1)
    assert take(seed=1).fingerprint == base.fingerprint and take(seed=1).id != base.id
    same = [{"tenant": "b"}, {"lane": "interactive"}, {"priority": "batch"}, {"deadline": 5}, {"metadata": {"a": 1}}]
    same += [{"model": "videogen-tiny@2"}, {"width": 64}, {"num_inference_steps": 20}, {"guidance_scale": 2.5}]
    for fields in same:
        assert take(seed=1, **fields).fingerprint == base.fingerprint, fields
    other = [{"seed": 2}, {"prompt": "a blue ball moving up"}, {"negative_prompt": "red"}, {"fps": 9}]
    other += [{"num_inference_steps": 19}, {"guidance_scale": 2.4}, {"digest": "e" * 64}]
    found = {take(**({"seed": 1} | fields)).fingerprint for fields in other}
    assert len(found) == len(other) and base.fingerprint not in found


def test_the_canonical_form_leaves_defaults_out_so_that_new_fields_keep_old_fingerprints():
    assert canonical(take(seed=1).request, SPEC) == {"prompt": "a red ball moving up"}
    assert canonical(take(guidance_scale=3).request, SPEC) == {"prompt": "a red ball moving up", "guidance_scale": 3.0}


def test_fingerprints_stay_what_they_are():
    # Cached videos are found by these: a change here is a new schema version.
    assert fingerprint(take(seed=1).request, SPEC, DIGEST) == (
        "02a8aeac2b4918443ea0bc9098fa7c58c80462c207385762730b5652b0c80080"
    )


def test_an_accepted_request_survives_json():
    found = take(metadata={"a": 1, "b": "x", "c": None, "d": True, "e": 0.5}, deadline=5)
    assert AcceptedRequest.from_json(found.to_json()) == found
    with pytest.raises(InvalidRequest):
        AcceptedRequest.from_json(found.to_json()[:-20])
    damaged = json.loads(found.to_json())
    damaged["request"]["width"] = "wide"
    with pytest.raises(InvalidRequest, match="width"):
        AcceptedRequest.from_json(json.dumps(damaged))


def test_ids_are_uuids_that_sort_by_time(monkeypatch):
    times = itertools.count(1_800_000_000_000_000_000, 1_000_000)
    monkeypatch.setattr(requests.time, "time_ns", lambda: next(times))
    ids = [new_id() for _ in range(100)]
    assert ids == sorted(ids) and len(set(ids)) == 100
    assert {one[14] for one in ids} == {"7"} and {one[19] for one in ids} <= set("89ab")
