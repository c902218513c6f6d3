"""A graph of a few kilobytes that tells every pixel from every other, and frames for it."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SIDE = 16


def weighted_graph(side: int = SIDE) -> onnx.ModelProto:
    """Makes a graph whose heatmap weighs every pixel differently; the score is its mean."""
    weights = np.random.RandomState(3).rand(side, side, 3).astype(np.float32)
    nodes = [
        helper.make_node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["pixels", "weights"], ["weighted"]),
        helper.make_node("ReduceMean", ["weighted"], ["heatmap"], axes=[3], keepdims=0),
        helper.make_node("ReduceMean", ["heatmap"], ["score"], axes=[1, 2], keepdims=0),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", side, side, 3])
    score = helper.make_tensor_value_info("score", TensorProto.FLOAT, ["N"])
    heatmap = helper.make_tensor_value_info("heatmap", TensorProto.FLOAT, ["N", side, side])
    constants = [numpy_helper.from_array(weights, "weights")]
    graph = helper.make_graph(nodes, "weighted", [image], [score, heatmap], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model)
    return model


def noise(count: int, shape: tuple[int, ...] = (SIDE, SIDE, 3)) -> np.ndarray:
    """Returns the same frames of noise every time, `(count, *shape) uint8`."""
    return np.random.RandomState(11).randint(0, 256, (count, *shape), np.uint8)
