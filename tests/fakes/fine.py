"""A graph whose weights need more digits than TF32 has, and what it gives."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from .weighted import SIDE

CHANNELS, ROWS = 64, SIDE * SIDE
WEIGHT = np.float32(1 + 2**-12)
"""TF32, with ten bits, makes it 1."""


def fine_graph() -> onnx.ModelProto:
    """Makes a graph of two convolutions and a matrix product, every weight `WEIGHT`."""
    shapes = {"first": (CHANNELS, 3, 1, 1), "second": (CHANNELS, CHANNELS, 1, 1)}
    shapes["matrix"] = (CHANNELS, CHANNELS)
    nodes = [
        helper.make_node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["pixels"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["planes", "first"], ["a"]),
        helper.make_node("Conv", ["a", "second"], ["b"]),
        helper.make_node("Transpose", ["b"], ["rows"], perm=[0, 2, 3, 1]),
        helper.make_node("MatMul", ["rows", "matrix"], ["c"]),
        helper.make_node("ReduceMean", ["c"], ["score"], axes=[1, 2, 3], keepdims=0),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", SIDE, SIDE, 3])
    score = helper.make_tensor_value_info("score", TensorProto.FLOAT, ["N"])
    constants = [numpy_helper.from_array(np.full(s, WEIGHT), n) for n, s in shapes.items()]
    graph = helper.make_graph(nodes, "fine", [image], [score], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model)
    return model


def fine_scores(frames: np.ndarray) -> np.ndarray:
    """Returns the graph's scores in FP64; TF32's are smaller by 7e-4."""
    means = frames.reshape(len(frames), -1).mean(axis=1)
    return means * 3 * CHANNELS**2 * float(WEIGHT) ** 3
