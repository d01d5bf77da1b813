"""The demo's page, from a store and artifacts that were really written."""

import json
import re
from html import unescape

import numpy as np
import pytest

from deploy.local import publication
from tests.fixtures.accepted import accepted
from videogen.artifacts import Artifacts
from videogen.evaluation import EVALUATION_FILE, KIND, Answer, Evaluation
from videogen.judging import DISTANCES
from videogen.judging import KIND as JUDGEMENTS
from videogen.media.mp4 import encode_mp4
from videogen.models.spec import ModelSpec
from videogen.quality.reading import HOW_TO_READ
from videogen.registry import ModelVersion
from videogen.store.store import Store

MADE, FAILED = 12, 2
GREY = encode_mp4(np.full((16, 64, 64, 3), 99, np.uint8), 8)


@pytest.fixture
def artifacts(tmp_path):
    kept = Artifacts(str(tmp_path / "artifacts"))
    wanted = {"colour": "red"}
    answers = [
        Answer(f"prompt {number}", number, wanted, {"colour": "blue"}, 0.1, f"clips/{number}.mp4")
        for number in range(MADE)
    ]
    answers += [Answer("none", number, wanted, {"colour": None}, 0.1, error="no") for number in range(FAILED)]
    found = Evaluation("m@1", "d" * 64, "e" * 64, "cpu", "fp32", "p", 12.5, tuple(answers), 4)

    def fill(folder):
        (folder / "clips").mkdir()
        for answer in answers[:MADE]:
            (folder / str(answer.video)).write_bytes(GREY)
        (folder / EVALUATION_FILE).write_text(found.to_json())

    kept.build(KIND, "evaluation", fill)
    distances = {"fvd": 463.2, "n": 32, "kvd": {"value": 9.0, "low": 1.0, "high": 20.0}, "floor": None}
    kept.build(JUDGEMENTS, "found", lambda to: (to / DISTANCES).write_text(json.dumps(distances)))
    return kept


def words_of(page):
    return " ".join(unescape(re.sub(r"<style>.*?</style>|<script>.*?</script>|<[^>]+>", " ", page, flags=re.S)).split())


def test_the_page_says_how_many_clips_it_leaves_out_and_how_to_read_the_distances(artifacts, tmp_path):
    version = ModelVersion("m", 1, "d" * 64, "somewhere", description="the first", tags={"judgement": "found"})
    section = publication.version_section(artifacts, version, "champion", [])
    page = publication.write_page(tmp_path / "report.html", [section], []).read_text()
    words = words_of(page)
    assert f"the first {publication.SHOWN_CLIPS} of {MADE}" in words
    assert page.count("data:video/mp4") == publication.SHOWN_CLIPS
    assert "FVD 463 on 32 clips" in words and "KVD 9 [1, 20] on 32 clips" in words
    assert HOW_TO_READ in words
    assert "Every clip is judged" not in words and "nothing judged whether they show what was asked for" in words


def test_a_version_whose_clips_are_all_shown_is_not_called_a_part(artifacts, tmp_path, monkeypatch):
    monkeypatch.setattr(publication, "SHOWN_CLIPS", MADE)
    section = publication.version_section(artifacts, ModelVersion("m", 1, "d" * 64, "somewhere"), "refused", [])
    words = words_of(publication.write_page(tmp_path / "report.html", [section], []).read_text())
    assert "Evaluation videos" in words and " of 12" not in words and "FVD 463" not in words


def test_saved_videos_are_named_by_their_words_alone(tmp_path):
    with Store.open(f"embedded:{tmp_path}/store") as store:
        record = store.submit(accepted(ModelSpec("m"), "A red, ring!"))
        batch = store.seal_batch([record.id], time_limit_s=60)
        (claim,) = store.claim(batch.id, holder="test", lease_s=60)
        store.publish(claim, GREY, {})
        (path,) = publication.save_videos(store, [store.request(record.id)], tmp_path / "videos")
    assert path.name == "00-a-red-ring.mp4" and path.read_bytes() == GREY
