"""Drains a batch and stops at a stage, so that a test can kill it there.

Run as `python -m tests.killed_drain STORE ARTIFACTS MODEL ENGINE BATCH STAGE`. At the stage it prints its name and
waits. What it runs until then is the real drain on a real engine.
"""

import sys
import time
from collections.abc import Callable
from typing import Any

STAGES = ("claimed", "generated", "encoded", "published", "all published", "finished")
LEASE_S = 2.0


def main(store_url: str, artifacts: str, model: str, engine: str, batch: str, wanted: str) -> None:
    from videogen.artifacts import Artifacts
    from videogen.drain import drain
    from videogen.engines.cache import load_engine
    from videogen.generate import Generator
    from videogen.media.mp4 import encode_mp4
    from videogen.models.wan import WanModel
    from videogen.store.store import Store

    def stop_after(stage: str, call: Callable[..., Any], nth: int = 1) -> Callable[..., Any]:
        calls = 0

        def watched(*arguments: Any, **options: Any) -> Any:
            nonlocal calls
            calls += 1
            found = call(*arguments, **options)
            if stage == wanted and calls == nth:
                print(stage, flush=True)
                time.sleep(600)
            return found

        return watched

    store = Store.open(store_url)
    count = len(store.batch(batch).request_ids)
    store.claim = stop_after("claimed", store.claim)  # type: ignore[method-assign]
    store.finish_batch = stop_after("finished", store.finish_batch)  # type: ignore[method-assign]
    publish = stop_after("published", store.publish, 2)
    store.publish = stop_after("all published", publish, count)  # type: ignore[method-assign]
    generator = Generator(WanModel(model, load_engine(Artifacts(artifacts), engine)))
    generator.model.finish = stop_after("generated", generator.model.finish, 2)  # type: ignore[method-assign]
    generator.model.sample = stop_after("generated", generator.model.sample, 2)  # type: ignore[method-assign]
    encode = stop_after("encoded", encode_mp4, 2)
    drain(store, batch, generator, holder="the killed one", provenance={}, encode=encode, lease_s=LEASE_S)


if __name__ == "__main__":
    main(*sys.argv[1:])
