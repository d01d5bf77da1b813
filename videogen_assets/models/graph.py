"""The version's networks as ONNX: what every builder starts from."""

import dagster as dg

from resources.artifacts import ArtifactsResource
from videogen.resolve import WEIGHTS
from videogen_assets.jobs import MODEL_GROUP
from videogen_assets.models.weights import model_weights
from videogen_assets.partitions import model_versions
from videogen_assets.placement import OWNERS
from videogen_assets.references import DIGEST, reference
from videogen_assets.refusals import final_refusals
from videogen_assets.shown import age, table


@dg.asset(
    deps=[model_weights],
    group_name=MODEL_GROUP,
    partitions_def=model_versions,
    kinds={"onnx"},
    owners=OWNERS,
    code_version="1",
)
def onnx_graph(context: dg.AssetExecutionContext, artifacts: ArtifactsResource) -> dg.MaterializeResult:
    """One ONNX graph per network, batch size open, everything else fixed: exported once per version."""
    from videogen.engines.cache import GRAPH_KIND, ensure_graph

    digest, store = reference(context.instance, "model_weights", context.partition_key, DIGEST), artifacts.artifacts()
    with final_refusals():
        graphs = ensure_graph(store, store.get(WEIGHTS, digest), digest)
        manifest = store.manifest(GRAPH_KIND, graphs.key.digest)
    context.log.info("%s: %s", ", ".join(graphs.graphs.networks), "exported" if graphs.built else "reused")
    return dg.MaterializeResult(
        metadata={
            DIGEST: digest,
            "graph_key": graphs.key.digest,
            "graph/size_mib": manifest.size / 2**20,
            "graph/networks": len(graphs.graphs.networks),
            "state": "exported" if graphs.built else f"reused, exported {age(graphs.path)} ago",
            "precision": graphs.graphs.precision,
            "shape_profile": str(graphs.graphs.profile),
            "fused_sampler_steps": max(len(graphs.graphs.sampler_sigmas) - 1, 0),
            "inputs": table(
                [
                    {"network": network, "input": name, "shape": " × ".join(map(str, shape))}
                    for network, inputs in graphs.graphs.inputs.items()
                    for name, shape in inputs.items()
                ]
            ),
            "exporters": ", ".join(graphs.key.exporter),
        },
        data_version=dg.DataVersion(graphs.digest),
    )
