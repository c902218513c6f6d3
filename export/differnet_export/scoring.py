"""Traces a trained model to an ONNX graph, and scores frames with the graph on the CPU.

A graph in FP16 or INT8 is scored as the device would score it: see `simplify.emulate_half`.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator, Sequence

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from differnet_runtime.backends.ort import OnnxRuntimeBackend, cpu_settings
from differnet_runtime.command import progress
from differnet_runtime.errors import ExportError
from differnet_runtime.model_file.contract import Pixel
from differnet_training.heads import HeadedModel
from differnet_training.model import Model

from .frames import Frame
from .simplify import copied, emulate_half, simplify, with_nodes

OPSET = 17
"""TensorRT 8.6 reads no later one; only torch's tracing exporter still writes it."""

MOST_BYTES = 2**31 - 1
"""Of one ONNX file, as of any protobuf message."""

EMULATIONS = {"fp16": "fp16-emulation", "int8": "int8-emulation"}
"""What scores a graph here that no CPU computes as a GPU does, by its precision."""

FEATURES = "features"
"""Name of the tensor between extractor and flow, `(V * N, D) float32`."""

HEADS = "heads"
"""Name of the output that holds each head's score, `(N, H) float32`."""


class _Exported(torch.nn.Module):
    """The model as the camera sees it; the features are an output only to be given their name."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        features = self.model.features(image)
        found = self.model.judge(features)
        further = (one for one in (found.heads, found.heatmaps) if one is not None)
        return (found.scores, features, *further)


def trace(model: Model, pixel: Pixel = "bgr") -> onnx.ModelProto:
    """Traces a model to an ONNX graph in FP32.

    Args:
        model: The trained model, in eval mode.
        pixel: Pixel format of the camera.

    Returns:
        `image (N, height, width, len(pixel)) uint8` to `score (N,) float32`, then, where the model
        has them, `heads (N, H) float32` and `heatmap (N, rows, columns) float32`; N free.

    Raises:
        ExportError: It is larger than one ONNX file may be, or uses an operator that has no ONNX
            form (an extractor of timm may).
    """
    _check_size(model)
    contract = model.contract
    example = torch.zeros(2, contract.height, contract.width, len(pixel), dtype=torch.uint8)
    buffer = io.BytesIO()
    outputs = ["score", FEATURES]
    outputs += [HEADS] if isinstance(model, HeadedModel) else []
    outputs += ["heatmap"] if model.windows else []
    try:
        with warnings.catch_warnings(), torch.inference_mode():
            # The exporter is deprecated (see OPSET), and constant shapes are what is wanted.
            warnings.simplefilter("ignore", DeprecationWarning)
            warnings.filterwarnings("ignore", "Constant folding", UserWarning)
            warnings.simplefilter("ignore", torch.jit.TracerWarning)  # type: ignore[attr-defined]
            with model.ready_to_trace(len(pixel)):
                torch.onnx.export(
                    _Exported(model).eval(),
                    (example,),
                    buffer,  # type: ignore[arg-type]  # the tracing exporter takes a file object
                    input_names=["image"],
                    output_names=outputs,
                    dynamic_axes={
                        "image": {0: "N"},
                        FEATURES: {0: "VN"},
                        **{name: {0: "N"} for name in outputs if name != FEATURES},
                    },
                    opset_version=OPSET,
                    dynamo=False,
                )
    except torch.onnx.errors.OnnxExporterError as error:
        reason = str(error).splitlines()[0]
        raise ExportError(
            f"{model.extractor.spec.name} can't be written as ONNX: {reason}"
        ) from error
    graph = onnx.load_from_string(buffer.getvalue())
    del graph.graph.output[1]
    for output in graph.graph.output:
        if output.name == "heatmap" and model.windows is not None:
            _, rows, columns = output.type.tensor_type.shape.dim
            rows.dim_value, columns.dim_value = model.windows.rows, model.windows.columns
    return simplify(graph)


def _check_size(model: Model) -> None:
    parameters = sum(tensor.numel() for tensor in model.state_dict().values())
    if 4 * parameters > MOST_BYTES:
        raise ExportError(
            f"the model has {parameters / 1e6:.0f} M numbers, {4 * parameters / 2**30:.1f} GiB; "
            "one ONNX file holds at most 2 GiB and weights outside the file are not supported. "
            "Train a narrower flow (--width)."
        )


def on_cpu(graph: ModelProto) -> ModelProto:
    """Returns what the CPU has to run to get a graph's scores: FP16 is emulated."""
    half = any(tensor.data_type == TensorProto.FLOAT16 for tensor in graph.graph.initializer)
    return emulate_half(graph) if half else graph


def scores(graph: ModelProto, frames: Sequence[Frame], what: str) -> NDArray[np.float32]:
    """Scores frames that are the graph's input, one at a time.

    Args:
        graph: A graph that `on_cpu` returned.
        frames: `(height, width, C) uint8` each; a missing fourth channel is added.
        what: For the progress line.

    Returns:
        `(N,) float32`.
    """
    with OnnxRuntimeBackend(graph.SerializeToString()) as backend:
        found = [
            backend.infer(_batch(frame, graph)).scores
            for frame in progress(frames, what, unit="frame")
        ]
    return np.concatenate(found) if found else np.empty(0, np.float32)


def outputs_of(
    graph: ModelProto, names: Sequence[str], frames: Sequence[Frame], what: str = ""
) -> Iterator[dict[str, NDArray[np.generic]]]:
    """Runs a graph on the CPU and yields tensors of it by name, for one frame after the other.

    Args:
        graph: A graph that `on_cpu` returned.
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
    session = onnxruntime.InferenceSession(
        observed.SerializeToString(), cpu_settings(onnxruntime, 0), ["CPUExecutionProvider"]
    )
    for frame in progress(frames, what, unit="frame") if what else frames:
        found = session.run(list(names), {"image": _batch(frame, graph)})
        yield dict(zip(names, found, strict=True))


def _batch(frame: Frame, graph: ModelProto) -> NDArray[np.uint8]:
    """Returns a frame as the graph's input, with a fourth channel where the graph has one."""
    channels = graph.graph.input[0].type.tensor_type.shape.dim[3].dim_value
    missing = max(0, channels - frame.shape[2])
    # 255 shows at once if the graph should read it.
    return np.pad(frame, ((0, 0), (0, 0), (0, missing)), constant_values=255)[None]


def with_scaled_features(graph: ModelProto, factor: float) -> ModelProto:
    """Returns the graph with its features multiplied: what a gross defect does to the flow.

    Args:
        graph: Holds a tensor `features`.
        factor: 0 for features that are all zero.

    Raises:
        ExportError: It has no such tensor.
    """
    change = helper.make_node("Mul", [f"{FEATURES}_unscaled", "feature_factor"], [FEATURES])
    return with_changed_features(graph, change, np.array(factor, np.float32))


def with_changed_features(
    graph: ModelProto, change: NodeProto, value: NDArray[np.float32]
) -> ModelProto:
    """Returns the graph with one more operation between extractor and flow.

    Args:
        graph: Holds a tensor `features`.
        change: The operation. Its first input is the extractor's features under a new name, its
            second one `value`, and its output `features`.
        value: Any shape that broadcasts to `(N, D)`.

    Raises:
        ExportError: The graph has no such tensor.
    """
    before, constant = change.input
    nodes = []
    for node in graph.graph.node:
        if FEATURES in node.output:
            outputs = [before if name == FEATURES else name for name in node.output]
            nodes += [copied(node, outputs=outputs), change]
        else:
            nodes.append(node)
    if change not in nodes:
        raise ExportError(f"the graph has no tensor {FEATURES!r}; export the model again")
    stored = numpy_helper.from_array(value, constant)
    return with_nodes(graph, nodes, [*graph.graph.initializer, stored])
