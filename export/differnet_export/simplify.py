"""Rewrites graphs: tidies what the tracer wrote, and emulates FP16 for the CPU.

`simplify` computes the same, bit for bit, in fewer nodes: the tracer writes every constant as a
node, copies of shared weights as Identity nodes, and padding before a convolution as a node.

`emulate_half` rounds as a GPU stores FP16. ONNX Runtime's CPU kernels compute runs of FP16 nodes in
FP32: 60000 * 2 / 2 is 60000 there, and infinite on a GPU. Here each node that gives an FP16 tensor
computes in FP32 and is followed by a cast to FP16 and back, which ONNX Runtime keeps, so rounding,
overflow and NaN are those of FP16 storage with FP32 sums inside an operator. Another order of the
sums, and FP16 sums where a GPU's kernel uses them, are not emulated.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from hashlib import sha256

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

Array = NDArray[np.generic]


def simplify(model: ModelProto) -> ModelProto:
    """Returns the same computation in fewer nodes.

    Args:
        model: The graph that the tracer wrote.
    """
    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    names: dict[str, str] = {}
    nodes: list[NodeProto] = []
    outputs = {output.name for output in graph.output}
    for node in graph.node:
        for position, name in enumerate(node.input):
            node.input[position] = names.get(name, name)
        if node.op_type == "Identity" and node.output[0] not in outputs:
            names[node.output[0]] = node.input[0]
        elif all(not name or name in constants for name in node.input):
            constants |= _evaluated(node, constants, model)
        else:
            nodes.append(node)
    nodes = _without_pads(nodes, constants)
    _share_equal_constants(nodes, constants)
    return with_nodes(model, nodes, constants.values())


def _evaluated(
    node: NodeProto, constants: dict[str, TensorProto], model: ModelProto
) -> dict[str, TensorProto]:
    """Runs a node whose inputs are all constant."""
    inputs = {name: numpy_helper.to_array(constants[name]) for name in node.input if name}
    graph = helper.make_graph(
        [node],
        "constant",
        [
            helper.make_tensor_value_info(
                name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape
            )
            for name, array in inputs.items()
        ],
        [onnx.ValueInfoProto(name=name) for name in node.output],
    )
    alone = helper.make_model(graph, opset_imports=model.opset_import)
    values = ReferenceEvaluator(alone).run(None, inputs)
    return {
        name: numpy_helper.from_array(np.asarray(value), name)
        for name, value in zip(node.output, values, strict=True)
    }


def _without_pads(nodes: list[NodeProto], constants: dict[str, TensorProto]) -> list[NodeProto]:
    """Moves zero padding in front of a convolution into the convolution."""
    users = uses(nodes)
    pads = {
        node.output[0]: node
        for node in nodes
        if _pads_zeros(node, constants)
        and all(user.op_type == "Conv" for user in users[node.output[0]])
    }
    for node in nodes:
        if node.op_type == "Conv" and node.input[0] in pads:
            pad = pads[node.input[0]]
            amounts = numpy_helper.to_array(constants[pad.input[1]]).tolist()
            _add_padding(node, amounts[2:4] + amounts[6:8])
            node.input[0] = pad.input[0]
    return [node for node in nodes if node.output[0] not in pads]


def _pads_zeros(node: NodeProto, constants: dict[str, TensorProto]) -> bool:
    if node.op_type != "Pad" or attribute(node, "mode", b"constant") != b"constant":
        return False
    amounts, *fill = [name for name in node.input[1:] if name]
    if not constants.keys() >= {amounts, *fill}:
        return False
    if any(numpy_helper.to_array(constants[name]).any() for name in fill):
        return False
    values = numpy_helper.to_array(constants[amounts])
    return values.size == 8 and not values[[0, 1, 4, 5]].any() and bool((values >= 0).all())


def _add_padding(conv: NodeProto, amounts: list[int]) -> None:
    for position, field in enumerate(conv.attribute):
        if field.name == "pads":
            amounts = [a + b for a, b in zip(amounts, field.ints, strict=True)]
            del conv.attribute[position]
            break
    conv.attribute.append(helper.make_attribute("pads", amounts))


def _share_equal_constants(nodes: list[NodeProto], constants: dict[str, TensorProto]) -> None:
    first: dict[tuple[int, tuple[int, ...], bytes], str] = {}
    for node in nodes:
        for position, name in enumerate(node.input):
            if name in constants:
                tensor = constants[name]
                digest = sha256(numpy_helper.to_array(tensor).tobytes()).digest()
                key = (tensor.data_type, tuple(tensor.dims), digest)
                node.input[position] = first.setdefault(key, name)


def with_nodes(
    model: ModelProto, nodes: Iterable[NodeProto], initializers: Iterable[TensorProto]
) -> ModelProto:
    """Returns a model of these nodes and of those initializers that they use.

    Nodes whose outputs are not used are left out.
    """
    wanted = {output.name for output in model.graph.output}
    kept = []
    for node in reversed(list(nodes)):
        if wanted & set(node.output):
            kept.append(node)
            wanted |= set(node.input)
    graph = GraphProto(name=model.graph.name)
    graph.node.extend(reversed(kept))
    graph.input.extend(model.graph.input)
    graph.output.extend(model.graph.output)
    graph.initializer.extend(tensor for tensor in initializers if tensor.name in wanted)
    return helper.make_model(
        graph,
        opset_imports=model.opset_import,
        ir_version=model.ir_version,
        producer_name="differnet-edge",
    )


def uses(nodes: Iterable[NodeProto]) -> dict[str, list[NodeProto]]:
    """Returns the nodes that read each tensor; an empty list for a tensor that none reads."""
    found: dict[str, list[NodeProto]] = {}
    for node in nodes:
        for name in node.output:
            found.setdefault(name, [])
        for name in node.input:
            found.setdefault(name, []).append(node)
    return found


def attribute(node: NodeProto, name: str, default: object) -> object:
    """Returns a node's attribute, or the default."""
    found = (helper.get_attribute_value(one) for one in node.attribute if one.name == name)
    return next(found, default)


def copied(
    node: NodeProto, *, inputs: Iterable[str] | None = None, outputs: Iterable[str] | None = None
) -> NodeProto:
    """Returns a copy of a node, with other inputs or outputs where they are given."""
    copy = NodeProto()
    copy.CopyFrom(node)
    if inputs is not None:
        copy.input[:] = inputs
    if outputs is not None:
        copy.output[:] = outputs
    return copy


def operators(model: ModelProto) -> Counter[str]:
    """Counts the nodes of each kind."""
    return Counter(node.op_type for node in model.graph.node)


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
        nodes.append(copied(node, outputs=[f"{name}_exact" for name in node.output]))
        for name in node.output:
            nodes += _rounded(f"{name}_exact", name)
    return with_nodes(model, nodes, initializers)


def _widened(tensor: TensorProto) -> TensorProto:
    if tensor.data_type != TensorProto.FLOAT16:
        return tensor
    return numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), tensor.name)


def _cast(node: NodeProto, half: set[str]) -> list[NodeProto]:
    source, output = node.input[0], node.output[0]
    target = attribute(node, "to", None)
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
