"""Builds an engine and stops at a stage, so that a test can kill it there.

Run as `python -m tests.engines.killed_build ROOT MODEL DIGEST STAGE`. At the stage it prints its name and waits. What
it runs until then is the real build.
"""

import sys
import time
from pathlib import Path

STAGES = ("graph half written", "engine started", "engine half written", "engine written")


def wait_if(stage: str, wanted: str) -> None:
    if stage == wanted:
        print(stage, flush=True)
        time.sleep(600)


def main(root: str, model: str, digest: str, wanted: str) -> None:
    from videogen.artifacts import Artifacts
    from videogen.engines import cache, export
    from videogen.engines.builders import builder_for

    builder = builder_for("onnxruntime")
    save, build = export.onnx.save_model, builder.build

    def watched_save(proto: object, path: str, **options: object) -> None:
        save(proto, path, **options)
        if wanted == "graph half written":
            Path(path).write_bytes(Path(path).read_bytes()[:1000])
        wait_if("graph half written", wanted)

    def watched_build(graphs: Path, out: Path, *rest: object) -> object:
        wait_if("engine started", wanted)
        report = build(graphs, out, *rest)
        if wanted == "engine half written":
            first = next(path for path in sorted(out.iterdir()) if path.is_file())
            first.write_bytes(first.read_bytes()[:1000])
        wait_if("engine half written", wanted)
        wait_if("engine written", wanted)
        return report

    export.onnx.save_model, builder.build = watched_save, watched_build  # type: ignore[method-assign]
    cache.ensure_engine(Artifacts(root), model, digest, builder, "fp32")


if __name__ == "__main__":
    main(*sys.argv[1:])
