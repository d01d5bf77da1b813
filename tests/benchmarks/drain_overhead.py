"""What a drain run costs beside generation and MP4, and at how many requests its launch no longer counts.

    python -m tests.benchmarks.drain_overhead

A real store, the shipped few-step version on its engine, 200 requests in one sealed batch. Inside: from the first lease
to the last publication, the share of wall time in which neither a video was generated nor an MP4 encoded. Launch: the
wall time of `dagster job execute` for a batch of one, less what its drain took. Larger drains show what both come to.
"""

import argparse
import os
import shutil
import subprocess
import tempfile
import time

import dagster as dg

from deploy.local import environment
from tests.benchmarks.shared import ARTIFACTS, SERVING, SHIPPED, held_out_requests, shipped, table, write
from videogen.artifacts import Artifacts
from videogen.drain import DrainReport, drain
from videogen.engines.device import available_cores
from videogen.evaluation import evaluation_prompts, questions
from videogen.manifest import build_manifest
from videogen.resolve import WEIGHTS
from videogen.settings import read_settings
from videogen.store.records import Champion, ServedEngine
from videogen.store.store import Store
from videogen_assets.partitions import request_batches

VERSION, LABEL = "2", "videogen-tiny@2"


def drained(count: int, batch_size: int) -> DrainReport:
    """A batch of `count` requests, in a store of its own, `batch_size` of them to a call."""
    generator = shipped(VERSION, streams=available_cores(), batch_size=batch_size)
    with tempfile.TemporaryDirectory() as folder, Store.open(f"embedded:{folder}/store") as store:
        ids = [store.submit(request, source="benchmark").id for request in held_out_requests(generator, count)]
        batch = store.seal_batch(ids, 3600)
        report = drain(store, batch.id, generator, holder="benchmark", provenance={})
        assert len(report.published) == count, report.failed
        return report


def launched() -> tuple[float, float]:
    """Wall seconds of a whole Dagster run for one request, and of the drain within it."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {"VIDEOGEN_HOME": folder, "VIDEOGEN_ARTIFACTS_URL": str(ARTIFACTS)}
        settings = read_settings()
        variables, batch = environment.prepare(settings), _batch_of_one(settings.store_url)
        with environment.open_instance(settings) as instance:
            instance.add_dynamic_partitions(request_batches.name, [batch])
            start = time.perf_counter()
            subprocess.run(
                [environment.script("dagster"), "job", "execute", "-m", "videogen_assets.definitions",
                 "-j", "batch_generation", "--tags", f'{{"dagster/partition": "{batch}"}}'],
                env=variables, check=True, capture_output=True, cwd=environment.ROOT,
            )  # fmt: skip
            whole = time.perf_counter() - start
            event = instance.get_latest_materialization_event(dg.AssetKey("generated_videos"))
        assert event is not None and event.asset_materialization is not None
        return whole, float(str(event.asset_materialization.metadata["perf/seconds"].value))


def _batch_of_one(url: str) -> str:
    from videogen.engines.builders import builder_for
    from videogen.engines.cache import ensure_engine
    from videogen.models.spec import read_spec

    folder, artifacts = SHIPPED / VERSION, Artifacts(str(ARTIFACTS))
    digest = build_manifest(folder).digest
    artifacts.build(WEIGHTS, digest, lambda scratch: shutil.copytree(folder, scratch, dirs_exist_ok=True))
    engine = ensure_engine(artifacts, folder, digest, builder_for(SERVING), "fp32").key.digest
    with Store.open(url) as store:
        served = {"cpu": ServedEngine(engine, "fp32", "benchmark")}
        store.promote("videogen-tiny", Champion(digest, LABEL, served), 0)
        asked = questions(evaluation_prompts(1), read_spec(folder), digest, LABEL, None)
        return store.seal_batch([store.submit(asked[0], source="benchmark").id], 3600).id


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--batch", type=int, default=4, help="requests to a call, as the warm-up found best")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--large", type=int, nargs="*", default=[2000, 8000], help="further sizes, one round of each")
    options = parser.parse_args()
    drains = (drained(options.requests, options.batch) for _ in range(options.rounds))
    reports = sorted(drains, key=lambda one: one.overhead_share)
    report = reports[len(reports) // 2]
    whole, inner = launched()
    launch = whole - inner
    shares = ", ".join(f"{one.overhead_share:.1%}" for one in reports)
    share = f"**{report.overhead_share:.1%}** of it (rounds: {shares})"
    asked = f"{options.requests} requests on {SERVING}, {options.batch} to a call, in {report.seconds:.1f} s"
    sizes = {options.requests: report} | {size: drained(size, options.batch) for size in options.large}
    wholes = {size: (launch + one.overhead_s) / (launch + one.seconds) for size, one in sizes.items()}
    enough = min((size for size, part in wholes.items() if part <= 0.05), default=None)
    lines = [
        f"- {asked}; what is neither generation nor MP4 is {share}",
        f"- a run for one request takes {whole:.1f} s, of which its drain {inner:.1f} s: **{launch:.1f} s** to launch",
        f"- launch and overhead together are at most 5 % at **{enough} requests** per run"
        if enough
        else f"- launch and overhead together are above 5 % up to {max(wholes)} requests per run",
        *table(
            ["requests in a run", "its drain, s", "ms per video", "overhead in the drain", "launch and overhead"],
            [
                [str(size), f"{one.seconds:.1f}", f"{1000 * one.seconds / size:.1f}", f"{one.overhead_share:.1%}",
                 f"{wholes[size]:.1%}"]
                for size, one in sizes.items()
            ],
        ),
    ]  # fmt: skip
    rows = [
        [name, f"{seconds:.2f}", f"{1000 * seconds / options.requests:.1f}"] for name, seconds in report.stages.items()
    ]
    stages = table(["stage, summed over threads", "s", "ms per video"], rows)
    write("drain_overhead", "What a drain run costs", __spec__.name, [*lines, *stages])


if __name__ == "__main__":
    main()
