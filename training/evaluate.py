"""The figures of the model card: held-out captions through the CPU engine that ships, judged by the pixel oracle."""

import argparse
import dataclasses
import json
from pathlib import Path
from tempfile import TemporaryDirectory

from videogen.artifacts import Artifacts
from videogen.engines.builders import builder_for
from videogen.engines.cache import ensure_engine, load_engine
from videogen.evaluation import Answer, answer, evaluation_prompts, questions, videos
from videogen.generate import Generator
from videogen.manifest import build_manifest
from videogen.media.contact_sheet import contact_sheet
from videogen.models.loading import load_tokenizer
from videogen.models.spec import read_spec
from videogen.models.wan import WanModel
from videogen.quality.agreement import agreement, pair


def ask(folder: Path, count: int, work: Path) -> tuple[tuple[Answer, ...], Path]:
    """`count` held-out captions through the OpenVINO engine of `folder`, two streams: the answers, and their folder."""
    artifacts, digest = Artifacts(str(work / "artifacts")), build_manifest(folder).digest
    stored = ensure_engine(artifacts, folder, digest, builder_for("openvino"), "fp32")
    model = WanModel(folder, load_engine(artifacts, stored.key.digest, threads=1, streams=2))
    prompts, vocabulary = evaluation_prompts(count), load_tokenizer(folder).vocabulary
    requests = questions(prompts, read_spec(folder), digest, str(folder), vocabulary)
    answers, seconds = answer(work, Generator(model), prompts, requests, lambda done: report(done, count))
    print(f"{count} clips in {seconds:.0f} s", flush=True)
    return answers, work


def report(done: int, count: int) -> None:
    if done % 64 == 0:
        print(f"{done} of {count} clips", flush=True)


def main(folder: Path, count: int) -> None:
    with TemporaryDirectory() as work:
        answers, place = ask(folder, count, Path(work))
        result = agreement(pair(a.wanted, a.seen) for a in answers)
        first = answers[:24]
        (folder / "contact_sheet.png").write_bytes(contact_sheet(videos(place, first), [a.prompt for a in first]))
    shares = {name: dataclasses.asdict(share) for name, share in result.shares().items()}
    (folder / "evaluation.json").write_text(json.dumps(shares, indent=1) + "\n")
    for name, share in result.shares().items():
        print(f"{name:10} {share.value:6.1%}  [{share.low:.1%}, {share.high:.1%}]  n={share.n}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="a model folder, for example models/videogen-tiny/1")
    parser.add_argument("--count", type=int, default=725)
    main(**vars(parser.parse_args()))
