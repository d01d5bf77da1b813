import json
from collections import Counter

import pytest

from videogen.errors import InvalidRequest
from videogen.loads.calls import kinds, plan, replayed, uniform
from videogen.models.tiny_tokenizer import TinyTokenizer
from videogen.scheduling.arrivals import poisson
from videogen.world.grammar import vocabulary


def test_each_call_is_another_video_that_the_default_model_understands():
    calls = plan(poisson(50, 20, 1), kinds(None), first_seed=7)
    seeds = [call.fields["seed"] for call in calls]
    assert seeds == list(range(7, 7 + len(calls)))
    assert 800 < len(calls) < 1200
    prompts = [call.fields["prompt"] for call in calls]
    TinyTokenizer(vocabulary())(prompts)
    assert len(set(prompts)) > 500
    assert "num_inference_steps" not in calls[0].fields and "deadline" not in calls[0].fields


def test_classes_come_by_their_shares_with_priority_and_steps():
    calls = plan(uniform(100, 20), kinds("interactive:0.8,long:0.2:16", 2.5))
    assert 0.75 < Counter(call.kind for call in calls)["interactive"] / len(calls) < 0.85
    by_kind = {call.kind: call.fields for call in calls}
    assert by_kind["interactive"]["priority"] == "interactive" and by_kind["long"]["priority"] == "standard"
    assert "num_inference_steps" not in by_kind["interactive"] and by_kind["long"]["num_inference_steps"] == 16
    assert {call.fields["deadline"] for call in calls} == {2.5}


def test_a_repeat_asks_exactly_what_an_earlier_call_asked():
    calls = plan(uniform(100, 20), kinds("a:0.5,b:0.5:8"), repeats=0.3, seed=5)
    first = {}
    for call in calls:
        assert call.is_repeat == (call.fields["seed"] in first)
        earlier = first.setdefault(call.fields["seed"], call)
        assert (call.fields, call.kind) == (earlier.fields, earlier.kind)
    assert 0.25 < sum(call.is_repeat for call in calls) / len(calls) < 0.35
    assert [call.fields for call in plan(uniform(100, 20), kinds("a:0.5,b:0.5:8"), repeats=0.3, seed=5)] == [
        call.fields for call in calls
    ]


def test_uniform_arrivals_are_as_many_as_asked_for_at_equal_distances():
    assert list(uniform(4, 1)) == [0.0, 0.25, 0.5, 0.75]
    assert len(list(uniform(0.3, 10))) == 3


def test_a_trace_is_replayed_in_order_of_time_with_its_classes(tmp_path):
    lines = [
        {"at": 0.5, "priority": "batch", "steps": 8, "deadline": 3},
        {"at": 0.25},
        {"at": 1, "priority": "interactive"},
    ]
    trace = tmp_path / "trace"
    trace.write_text("\n".join(map(json.dumps, lines)) + "\n\n")
    found = replayed(trace, deadline_s=1.5)
    calls = plan([at for at, _ in found], kinds(None), own=[kind for _, kind in found])
    assert [(call.at, call.kind) for call in calls] == [
        (0.25, "standard"),
        (0.5, "batch, 8 steps"),
        (1.0, "interactive"),
    ]
    assert [call.fields["deadline"] for call in calls] == [1.5, 3, 1.5]
    assert calls[1].fields["num_inference_steps"] == 8


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("soon", "trace line 2: got 'soon'"),
        ('{"at": -1}', "trace line 2"),
        ('{"at": true}', "trace line 2"),
        ('{"at": 1, "priority": "urgent"}', "trace line 2, priority: got 'urgent'; allowed: interactive or"),
        ('{"at": 1, "steps": 1.5}', "trace line 2, steps: got 1.5"),
        ('{"at": 1, "deadline": 0}', "trace line 2, deadline: got 0"),
        ('{"at": 1, "prompt": "x"}', "trace line 2: got 'prompt'"),
    ],
)
def test_a_line_of_a_trace_that_is_none_is_named(tmp_path, line, named):
    trace = tmp_path / "trace"
    trace.write_text('{"at": 0}\n' + line + "\n")
    with pytest.raises(InvalidRequest) as told:
        replayed(trace)
    assert named in str(told.value)


@pytest.mark.parametrize("mix", ["", "a", "a:", "a:x", "a:0", "a:0.5,a:0.5", "a:0.5:0", "a:0.5,,b:0.5"])
def test_a_mix_that_is_none_is_refused(mix):
    with pytest.raises(InvalidRequest, match="mix: got"):
        kinds(mix)
