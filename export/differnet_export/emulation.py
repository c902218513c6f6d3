"""FP16 as a GPU stores it, on a CPU.

ONNX Runtime's CPU kernels compute runs of FP16 nodes in FP32: 60000 * 2 / 2 is 60000 there, and
infinite on a GPU. Here every FP16 tensor of a graph is really rounded to FP16: each node that
gives one computes in FP32 and is followed by a cast to FP16 and back, which ONNX Runtime keeps.
So rounding, overflow and NaN are those of FP16 storage with FP32 sums inside an operator. Not
emulated: another order of the sums, and FP16 sums where a GPU's kernel uses them.
"""

from __future__ import annotations

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from .simplify import with_nodes


def emulate_half(model: ModelProto) -> ModelProto:
    """Rewrites a strongly typed FP16 graph as an FP32 graph that rounds where it would.

    Args:
        model: Its inputs and outputs are not FP16.

    Returns:
        A model for ONNX Runtime's CPU backend, with the same inputs and outputs.
    """
    half = {t.name for t in model.graph.initializer if t.data_type == TensorProto.FLOAT16}
    initializers = [_widened(tensor) for tensor in model.graph.initializer]
    nodes: list[NodeProto] = []
    for node in model.graph.node:
        if node.op_type == "Cast":
            nodes += _cast(node, half)
            continue
        if not half & set(node.input):
            nodes.append(node)
            continue
        half |= set(node.output)
        copy = NodeProto()
        copy.CopyFrom(node)
        copy.output[:] = [f"{name}_exact" for name in node.output]
        nodes.append(copy)
        for name in node.output:
            nodes += _rounded(f"{name}_exact", name)
    return with_nodes(model, nodes, initializers)


def _widened(tensor: TensorProto) -> TensorProto:
    if tensor.data_type != TensorProto.FLOAT16:
        return tensor
    return numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), tensor.name)


def _cast(node: NodeProto, half: set[str]) -> list[NodeProto]:
    source, output = node.input[0], node.output[0]
    target = helper.get_attribute_value(node.attribute[0])
    if target == TensorProto.FLOAT16:
        half.add(output)
        return _rounded(source, output)
    if source in half and target == TensorProto.FLOAT:
        return [helper.make_node("Identity", [source], [output])]
    return [node]


def _rounded(name: str, output: str) -> list[NodeProto]:
    return [
        helper.make_node("Cast", [name], [f"{output}_stored"], to=TensorProto.FLOAT16),
        helper.make_node("Cast", [f"{output}_stored"], [output], to=TensorProto.FLOAT),
    ]
