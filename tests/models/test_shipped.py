"""The model that ships: whole, small, safe to read, as good as its card says, and able to say what it does not know."""

import json
from pathlib import Path

import pytest

from videogen.artifacts import Artifacts
from videogen.engines.builders import builder_for
from videogen.engines.cache import ensure_engine, load_engine
from videogen.errors import UnknownWord
from videogen.evaluation import evaluation_prompts, questions
from videogen.generate import Clip, Generator
from videogen.manifest import build_manifest, check_safe
from videogen.models.loading import load_tokenizer
from videogen.models.wan import WanModel
from videogen.quality.agreement import agreement
from videogen.quality.oracle import judge

MODELS = Path(__file__).resolve().parents[2] / "models" / "videogen-tiny"
VERSIONS = ("1", "2")
PROMISED = {"colour": 0.97, "background": 0.97, "motion": 0.92, "size": 0.90, "shape": 0.80, "joint": 0.75}


def test_both_versions_together_are_small():
    assert sum(path.stat().st_size for path in MODELS.rglob("*") if path.is_file()) < 30e6


@pytest.mark.parametrize("version", VERSIONS)
def test_it_holds_nothing_that_could_run(version):
    check_safe(MODELS / version)


@pytest.mark.parametrize("version", VERSIONS)
def test_the_card_says_what_was_measured_and_that_is_enough(version):
    shares = json.loads((MODELS / version / "evaluation.json").read_text())
    card = (MODELS / version / "README.md").read_text()
    for name, floor in PROMISED.items():
        assert shares[name]["n"] >= 512
        assert shares[name]["value"] >= floor, name
        assert f"{shares[name]['value']:.1%}" in card
    assert (MODELS / version / "contact_sheet.png").exists() and "contact_sheet.png" in card


@pytest.mark.parametrize("version", VERSIONS)
def test_an_unknown_word_is_named_with_what_there_is_instead(version):
    with pytest.raises(UnknownWord, match="purple"):
        load_tokenizer(MODELS / version).tokenize("a small purple circle")


@pytest.mark.slow
def test_held_out_prompts_get_what_they_name(tmp_path):
    """A few clips of the few-step version, made now: the card's figures are of these weights and not of others."""
    folder, artifacts = MODELS / "2", Artifacts(str(tmp_path))
    digest, prompts = build_manifest(folder).digest, evaluation_prompts(40)
    stored = ensure_engine(artifacts, folder, digest, builder_for("openvino"), "fp32")
    generator = Generator(WanModel(folder, load_engine(artifacts, stored.key.digest)))
    asked = questions(prompts, generator.model.spec, digest, "videogen-tiny@2", load_tokenizer(folder).vocabulary)
    made = {found.request.id: found.frames for found in generator.generate(asked) if isinstance(found, Clip)}
    seen = agreement((prompt.attributes, judge(made[one.id])) for prompt, one in zip(prompts, asked, strict=True))
    assert seen.joint.right >= 24
