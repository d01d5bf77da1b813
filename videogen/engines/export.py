"""PyTorch modules -> one ONNX file per network, with a dynamic batch."""

import contextlib
import io
import logging
import warnings
from collections.abc import Generator, Sequence
from functools import partial
from pathlib import Path

import onnx
import torch
from torch import nn

from videogen.artifacts import Artifacts
from videogen.engines.base import Precision, ShapeProfile
from videogen.engines.graphs import Graphs
from videogen.engines.key import exporter_versions
from videogen.engines.layout import relay
from videogen.engines.networks import INPUTS, OUTPUTS, wrap
from videogen.engines.sampler import compose_sampler
from videogen.engines.skeletons import ensure_skeleton, filled
from videogen.errors import EngineBuildFailed
from videogen.models.loading import Networks, latent_layout, load_networks, load_tokenizer, read_json

OPSET = 20
NOISY = ("torch.onnx", "torch.export", "torch.__trace", "onnxscript", "onnx_ir")
EMBEDDED_BYTES = 1_500_000_000
"""Above this, weights lie beside the graph: protobuf ends at 2 GB."""


CONFIGS = {"text_encoder": "text_encoder", "denoiser": "transformer", "decoder": "vae"}
"""Network -> the component whose config decides what its graph looks like."""


def export_onnx(
    artifacts: Artifacts,
    model_folder: Path | str,
    out: Path,
    precision: Precision,
    profile: ShapeProfile,
    sigmas: Sequence[float] = (),
    timesteps: Sequence[float] = (),
) -> Graphs:
    """Writes `<network>.onnx` for every network of a model, and `graphs.json`; skeletons are kept in `artifacts`.

    Inputs and outputs stay float32 whatever `precision` the network computes in (fp32 or fp16). With `sigmas` (N + 1)
    and `timesteps` (N) a "sampler" is written too: all its steps and the decoder. Raises EngineBuildFailed.
    """
    if precision == "bf16":
        raise EngineBuildFailed("graphs are exported in fp32 or fp16; bf16 is a choice of the builder")
    latents = latent_layout(model_folder).shape(profile.num_frames, profile.height, profile.width)
    networks = relay(load_networks(model_folder), latents)
    examples = _examples(networks, latents, load_tokenizer(model_folder).max_length)
    if precision == "fp16":
        networks = Networks(networks.text_encoder.half(), networks.transformer.half(), networks.vae.half())
    models = {}
    for name, network in wrap(networks).items():
        inputs, weights = tuple(examples[i] for i in INPUTS[name]), network.state_dict()
        config = read_json(Path(model_folder) / CONFIGS[name] / "config.json")
        identity = [name, config, precision, [list(given.shape) for given in inputs], OPSET, *exporter_versions()]
        skeleton = ensure_skeleton(artifacts, identity, weights, partial(_export, name, network, inputs))
        models[name] = _stripped(filled(skeleton, weights))
    if len(sigmas):
        models["sampler"] = compose_sampler(models["denoiser"], models["decoder"], sigmas, timesteps)
    for name, model in models.items():
        big = model.ByteSize() > EMBEDDED_BYTES
        onnx.save_model(model, str(out / f"{name}.onnx"), save_as_external_data=big, location=f"{name}.weights")
    shapes = {n: {i: ["batch", *examples[i].shape[1:]] for i in INPUTS[n]} for n in models}
    graphs = Graphs(tuple(models), precision, profile, tuple(map(float, sigmas)), shapes)
    graphs.write(out)
    return graphs


def _examples(networks: Networks, shape: tuple[int, ...], length: int) -> dict[str, torch.Tensor]:
    # Two rows: with one, torch.export takes the batch for a constant.
    latents = torch.randn(2, *shape)
    ids = torch.ones(2, length, dtype=torch.int64)
    with torch.inference_mode():
        embeds = wrap(networks)["text_encoder"](ids, ids)[0].clone()
    timestep = torch.tensor([999.0, 500.0])
    return {
        "input_ids": ids, "attention_mask": ids.clone(), "latents": latents, "noise": latents,
        "timestep": timestep, "embeds": embeds,
    }  # fmt: skip


def _export(name: str, network: nn.Module, examples: tuple[torch.Tensor, ...]) -> onnx.ModelProto:
    batch = torch.export.Dim("batch", min=1, max=4096)
    shapes = {input_name: {0: batch} for input_name in INPUTS[name]}
    # torch.export and onnxscript raise a dozen unrelated classes for a module they cannot follow.
    try:
        with _quiet(), torch.no_grad():
            program = torch.onnx.export(
                network, examples, input_names=list(INPUTS[name]), output_names=list(OUTPUTS[name]),
                opset_version=OPSET, dynamo=True, dynamic_shapes=shapes, verbose=False, optimize=False,
            )  # fmt: skip
            assert program is not None
            return program.model_proto
    except Exception as error:
        raise EngineBuildFailed(f"{name} cannot be exported to ONNX: {error}") from error


def _stripped(model: onnx.ModelProto) -> onnx.ModelProto:
    """Drops what the exporter notes about the machine it ran on, so that the same weights give the same graph."""
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    for values in (model.graph.value_info, model.graph.input, model.graph.output, model.graph.initializer):
        for value in values:
            del value.metadata_props[:]
    del model.metadata_props[:]
    del model.graph.metadata_props[:]
    del model.functions[:]
    return model


@contextlib.contextmanager
def _quiet() -> Generator[None]:
    """The exporter prints its progress and warns of its own internals."""
    loggers = [logging.getLogger(name) for name in NOISY]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
