"""Composes a denoiser's and a decoder's graphs into one that takes every step: no second trace, weights stored once."""

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper


def compose_sampler(
    denoiser: onnx.ModelProto, decoder: onnx.ModelProto, sigmas: Sequence[float], timesteps: Sequence[float]
) -> onnx.ModelProto:
    """noise, embeds -> latents, frames, level: Euler at N + 1 `sigmas` and N `timesteps`, without guidance."""
    nodes = [helper.make_node("Shape", ["noise"], ["batch"], start=0, end=1)]
    weights = [*denoiser.graph.initializer]
    decoder_weights = {w.name: f"decoder/{w.name}" for w in decoder.graph.initializer}
    steps, latents = np.diff(np.asarray(sigmas, dtype=np.float32)), "noise"
    for index, (timestep, step) in enumerate(zip(timesteps, steps, strict=True)):
        at, following = f"step{index}/", f"latents{index + 1}" if index + 1 < len(steps) else "latents"
        weights.append(numpy_helper.from_array(np.array([timestep], dtype=np.float32), f"{at}time"))
        weights.append(numpy_helper.from_array(np.array(step, dtype=np.float32), f"{at}length"))
        nodes.append(helper.make_node("Expand", [f"{at}time", "batch"], [f"{at}timestep"]))
        given = {"latents": latents, "timestep": f"{at}timestep", "embeds": "embeds", "velocity": f"{at}velocity"}
        nodes += _copies(denoiser, given | {w.name: w.name for w in denoiser.graph.initializer}, at)
        nodes.append(helper.make_node("Mul", [f"{at}velocity", f"{at}length"], [f"{at}move"]))
        nodes.append(helper.make_node("Add", [latents, f"{at}move"], [following]))
        latents = following
    nodes += _copies(decoder, {n: n for n in ("latents", "frames", "level")} | decoder_weights, "decoder/")
    for weight in decoder.graph.initializer:
        renamed = TensorProto()
        renamed.CopyFrom(weight)
        renamed.name = decoder_weights[weight.name]
        weights.append(renamed)
    return _model(denoiser, decoder, nodes, weights)


def _copies(model: onnx.ModelProto, names: Mapping[str, str], prefix: str) -> list[NodeProto]:
    copies = []
    for node in model.graph.node:
        copy = NodeProto()
        copy.CopyFrom(node)
        copy.name = prefix + node.name
        for values in (copy.input, copy.output):
            values[:] = [names.get(value, prefix + value) if value else "" for value in values]
        copies.append(copy)
    return copies


def _model(
    denoiser: onnx.ModelProto, decoder: onnx.ModelProto, nodes: list[NodeProto], weights: list[TensorProto]
) -> onnx.ModelProto:
    by_name = {value.name: value for value in (*denoiser.graph.input, *decoder.graph.output)}
    noise, latents = onnx.ValueInfoProto(), by_name["latents"]
    noise.CopyFrom(latents)
    noise.name = "noise"
    inputs, outputs = [noise, by_name["embeds"]], [latents, by_name["frames"], by_name["level"]]
    graph = helper.make_graph(nodes, "sampler", inputs, outputs, weights)
    return helper.make_model(graph, opset_imports=denoiser.opset_import, ir_version=denoiser.ir_version)
