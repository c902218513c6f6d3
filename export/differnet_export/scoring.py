"""Scores of a graph on the CPU, as the device would give them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper

from differnet_runtime.backends.ort import OnnxRuntimeBackend, cpu_settings
from differnet_runtime.command import progress
from differnet_runtime.errors import ExportError

from .emulation import emulate_half
from .graph import FEATURES
from .simplify import with_nodes

EMULATIONS = {"fp16": "fp16-emulation", "int8": "int8-emulation"}
"""What scores a graph here that no CPU computes as a GPU does, by its precision."""

Frame = NDArray[np.uint8]


def on_cpu(graph: ModelProto) -> ModelProto:
    """Returns what the CPU has to run to get a graph's scores: FP16 is emulated."""
    half = any(tensor.data_type == TensorProto.FLOAT16 for tensor in graph.graph.initializer)
    return emulate_half(graph) if half else graph


def scores(graph: ModelProto, frames: Sequence[Frame], what: str) -> NDArray[np.float32]:
    """Scores frames that are the graph's input, one at a time.

    Args:
        graph: As `on_cpu` gives it.
        frames: `(height, width, C) uint8` each; a missing fourth channel is added.
        what: For the progress line.

    Returns:
        `(N,) float32`.
    """
    channels = graph.graph.input[0].type.tensor_type.shape.dim[3].dim_value
    with OnnxRuntimeBackend(graph.SerializeToString()) as backend:
        found = [
            backend.infer(_with_channels(frame, channels)[None]).scores
            for frame in progress(frames, what, unit="frame")
        ]
    return np.concatenate(found) if found else np.empty(0, np.float32)


def outputs_of(
    graph: ModelProto, names: Sequence[str], frames: Sequence[Frame], what: str = ""
) -> Iterator[dict[str, NDArray[np.generic]]]:
    """Runs a graph on the CPU and yields tensors of it by name, for one frame after the other.

    Args:
        graph: As `on_cpu` gives it.
        names: Any tensors of the graph.
        frames: `(height, width, C) uint8` each; a missing fourth channel is added.
        what: For the progress line; empty for none.
    """
    import onnxruntime

    observed = ModelProto()
    observed.CopyFrom(graph)
    del observed.graph.output[:]
    observed.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    observed = with_nodes(observed, observed.graph.node, observed.graph.initializer)
    channels = graph.graph.input[0].type.tensor_type.shape.dim[3].dim_value
    session = onnxruntime.InferenceSession(
        observed.SerializeToString(), cpu_settings(onnxruntime, 0), ["CPUExecutionProvider"]
    )
    for frame in progress(frames, what, unit="frame") if what else frames:
        batch = _with_channels(frame, channels)[None]
        yield dict(zip(names, session.run(list(names), {"image": batch}), strict=True))


def _with_channels(frame: Frame, channels: int) -> Frame:
    if frame.shape[2] >= channels:
        return frame
    # A value that shows at once if the graph should read it.
    fourth = np.full((*frame.shape[:2], channels - frame.shape[2]), 255, np.uint8)
    return np.concatenate([frame, fourth], axis=2)


def with_scaled_features(graph: ModelProto, factor: float) -> ModelProto:
    """Returns the graph with its features multiplied: what a gross defect does to the flow.

    Args:
        graph: Holds a tensor `features`.
        factor: 0 for features that are all zero.

    Raises:
        ExportError: It has no such tensor.
    """
    nodes = []
    found = False
    for node in graph.graph.node:
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        nodes.append(copy)
        if FEATURES in node.output:
            copy.output[:] = [f"{n}_unscaled" if n == FEATURES else n for n in node.output]
            inputs = [f"{FEATURES}_unscaled", "feature_factor"]
            nodes.append(helper.make_node("Mul", inputs, [FEATURES]))
            found = True
    if not found:
        raise ExportError(f"the graph has no tensor {FEATURES!r}; export the model again")
    constant = numpy_helper.from_array(np.array(factor, np.float32), "feature_factor")
    return with_nodes(graph, nodes, [*graph.graph.initializer, constant])
