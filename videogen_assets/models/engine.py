"""The version compiled for every configured target, and compared with its float32 reference where it can run."""

import dagster as dg

from resources.artifacts import ArtifactsResource
from resources.engines import EnginesResource
from resources.gpu import DeviceResource
from videogen.artifacts import Artifacts
from videogen.evaluation import evaluation_prompts, questions
from videogen.proving import CLIPS, Proof, Prover
from videogen.telling import Telling
from videogen_assets.checks import gate, verdict
from videogen_assets.jobs import MODEL_GROUP
from videogen_assets.models.candidates import version_of
from videogen_assets.models.graph import onnx_graph
from videogen_assets.models.targets import TARGETS, as_metadata, proofs_of
from videogen_assets.partitions import model_versions
from videogen_assets.placement import ON_DEVICE, OWNERS
from videogen_assets.references import reference
from videogen_assets.refusals import final_refusals
from videogen_assets.shown import Cell, Metadata, age, chart, table


@dg.asset(
    deps=[onnx_graph],
    group_name=MODEL_GROUP,
    partitions_def=model_versions,
    kinds={"onnxruntime", "openvino", "tensorrt"},
    owners=OWNERS,
    code_version="1",
    **ON_DEVICE,
)
def engine(
    context: dg.AssetExecutionContext, artifacts: ArtifactsResource, engines: EnginesResource, device: DeviceResource
) -> dg.MaterializeResult:
    """One engine per configured target: on the CPU the fastest of several whose videos are those of the reference.

    An engine that cannot run on this machine is built and stays unproven: it blocks only itself.
    """
    store, label = artifacts.artifacts(), context.partition_key
    from videogen.quality.gates import read_settings

    with final_refusals(), device.lease("exclusive", f"build engines of {label}") as lease:
        model = version_of(context.instance, store, label)
        requests = questions(evaluation_prompts(CLIPS), model.spec, model.version_digest, label, model.vocabulary)
        graph_key = reference(context.instance, "onnx_graph", label, "graph_key")
        prover = Prover(
            store, model.folder, model.version_digest, graph_key, requests,
            lease.device, engines.thread_count(), read_settings(), Telling(context.log.info),
        )  # fmt: skip
        found = [prover.prove(target) for target in engines.targets_to_build()]
    for proof, _ in found:
        context.log.info("%s: %s. %s", proof.target, proof.state, proof.reason)
    proofs = [proof for proof, _ in found]
    metadata: Metadata = {
        TARGETS: as_metadata(proofs),
        "engines": table([_row(store, proof, is_new) for proof, is_new in found]),
        "device": str(lease.device),
        **_numbers(store, proofs),
        **_trials(proofs),
    }
    return dg.MaterializeResult(
        metadata=metadata, data_version=dg.DataVersion("-".join(p.engine_key[:16] or p.state for p in proofs))
    )


@gate(engine, "Videos of the engine are those of the float32 reference at the same seeds, by PSNR and SSIM.")
def engine_fidelity(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
    proofs = proofs_of(context.instance, context.partition_key)
    reports = {proof.target: proof.report for proof in proofs if proof.report is not None}
    return verdict(reports, {p.target: f"{p.state}: {p.reason}" for p in proofs if p.report is None})


def _row(store: Artifacts, proof: Proof, is_new: bool) -> dict[str, Cell]:
    row: dict[str, Cell] = {
        "target": proof.target,
        "state": proof.state,
        "engine": f"{proof.builder} {proof.precision}".strip(),
        "MiB": None,
        "build s": None,
        "layers": None,
        "profile": None,
        "made": None,
        "reason": proof.reason,
    }
    if proof.engine_key:
        from videogen.engines.base import read_report
        from videogen.engines.cache import ENGINE_KIND

        path = store.path(ENGINE_KIND, proof.engine_key)
        report = read_report(path)
        layers = ", ".join(f"{network} {count}" for network, count in report.layers.items())
        row |= {"MiB": report.size / 2**20, "build s": report.seconds, "layers": layers}
        row |= {"profile": str(report.profile), "made": "now" if is_new else f"reused, built {age(path)} ago"}
    return row


def _numbers(store: Artifacts, proofs: list[Proof]) -> Metadata:
    """Of the engine that would serve first: what is plotted over versions."""
    built = [proof for proof in proofs if proof.state == "proven"] or [proof for proof in proofs if proof.engine_key]
    if not built:
        return {}
    from videogen.engines.base import read_report
    from videogen.engines.cache import ENGINE_KIND

    report = read_report(store.path(ENGINE_KIND, built[0].engine_key))
    numbers: Metadata = {
        "engine_key": built[0].engine_key,
        "engine/size_mib": report.size / 2**20,
        "engine/build_s": report.seconds,
        "engine/layers": sum(report.layers.values()),
    }
    gates = built[0].report.gates if built[0].report else ()
    names = {"fidelity_psnr": "engine/psnr_db", "fidelity_ssim": "engine/ssim"}
    return numbers | {names[found.name]: found.value for found in gates if found.value is not None}


def _trials(proofs: list[Proof]) -> Metadata:
    """What was compared on the CPU."""
    trials = [trial for proof in proofs for trial in proof.trials]
    if not trials:
        return {}
    from videogen.media.charts import bar_chart

    rows: list[dict[str, Cell]] = [
        {"engine": f"{t.builder} {t.precision}", "ms per video": t.seconds_per_video and 1000 * t.seconds_per_video,
         "PSNR dB": t.mean_psnr, "SSIM": t.mean_ssim, "MiB": t.size and t.size / 2**20, "refused because": t.refusal}
        for t in trials
    ]  # fmt: skip
    bars = [(f"{t.builder} {t.precision}", 1000 * t.seconds_per_video) for t in trials if t.seconds_per_video]
    return {"tried_on_cpu": table(rows), "speed": chart(bar_chart("Time per video", bars, "ms"), "ms per video")}
