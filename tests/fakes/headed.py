"""A model of three heads for an input that is not square: each head looks at one colour."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from differnet_runtime.backends.ort import OnnxRuntimeBackend
from differnet_runtime.inspection.preprocess import golden_frames
from differnet_runtime.model_file.contract import InputContract, Views
from differnet_runtime.model_file.file import write_model_file
from differnet_runtime.model_file.metadata import (
    FlowSpec,
    Head,
    HeadName,
    ModelMetadata,
    Verification,
    Windows,
)

HEIGHT, WIDTH, ROWS, COLUMNS = 32, 64, 4, 8
HEADS: tuple[HeadName, ...] = ("whole", "coarse", "fine")
"""In the order of blue, green and red."""


def headed_graph(*, count: int = len(HEADS), extra: bool = True) -> onnx.ModelProto:
    """Makes a graph whose heads are mean blue, green and red, and whose score is the greatest.

    Args:
        count: How many heads it gives.
        extra: With the outputs `heads` and `heatmap`, in this order, which is not the usual one.
    """
    floats, window = TensorProto.FLOAT, HEIGHT // ROWS
    nodes = [
        helper.make_node("Cast", ["image"], ["pixels"], to=floats),
        helper.make_node("ReduceMean", ["pixels"], ["colours"], axes=[1, 2], keepdims=0),
        helper.make_node("Slice", ["colours", "first", "count", "axis"], ["heads"]),
        helper.make_node("ReduceMax", ["heads"], ["score"], axes=[1], keepdims=0),
        helper.make_node("Transpose", ["pixels"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("AveragePool", ["planes"], ["pooled"],
                         kernel_shape=[window, window], strides=[window, window]),
        helper.make_node("ReduceMean", ["pooled"], ["heatmap"], axes=[1], keepdims=0),
    ]  # fmt: skip
    if not extra:
        nodes = nodes[:4]
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", HEIGHT, WIDTH, 3])
    outputs = [helper.make_tensor_value_info("score", floats, ["N"])]
    if extra:
        outputs = [
            helper.make_tensor_value_info("heads", floats, ["N", count]),
            helper.make_tensor_value_info("heatmap", floats, ["N", ROWS, COLUMNS]),
            *outputs,
        ]
    constants = [
        numpy_helper.from_array(np.array([value], np.int64), name)
        for name, value in (("first", 0), ("count", count), ("axis", 1))
    ]
    graph = helper.make_graph(nodes, "headed", [image], outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model)
    return model


def headed_metadata(metadata: ModelMetadata) -> ModelMetadata:
    """Returns metadata for that graph; threshold and good scores are those of `metadata`."""
    flow = FlowSpec(features=24, blocks=0, whitened=True)
    return metadata.replaced(
        input=InputContract(height=HEIGHT, width=WIDTH),
        views=Views(angles=(0.0, 180.0), trained=(0.0, 180.0)),
        flow=None,
        heads=tuple(
            Head(name=name, taps=(2, 4), rows=rows, columns=2 * rows - (rows == 1), flow=flow)
            for name, rows in zip(HEADS, (1, 2, 4), strict=True)
        ),
        windows=Windows(rows=ROWS, columns=COLUMNS, low=1.0, high=200.0),
    )


def write_headed_model(path: Path, metadata: ModelMetadata, **graph: int) -> Path:
    """Writes the model file, with the golden scores that ONNX Runtime gives."""
    model = headed_graph(**graph).SerializeToString()  # type: ignore[arg-type]
    headed = headed_metadata(metadata)
    with OnnxRuntimeBackend(model, threads=1) as backend:
        scores = backend.infer(golden_frames(headed.input)).scores.tolist()
    verification = Verification(
        frames=len(scores), greatest_relative_difference=0.0, golden_scores=tuple(scores)
    )
    write_model_file(path, model, headed.replaced(verification=verification))
    return path


def coloured(blue: int, green: int, red: int, height: int = HEIGHT, width: int = WIDTH):
    """Returns a plain `(height, width, 3) uint8` frame."""
    return np.full((height, width, 3), (blue, green, red), np.uint8)
