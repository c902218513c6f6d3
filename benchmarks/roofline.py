"""What a graph must compute and move, node by node, and the least time a machine needs for it.

A floor, so everything that could be free counts as free: activations that follow a convolution or
a matrix product are fused into it, reshapes are names, and bytes move at the speed of the fastest
memory that a node's own data fits into.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import onnx
from onnx import ModelProto, NodeProto, shape_inference

from differnet_export.graph import attribute, uses

DENSE, DEPTHWISE, REST = "dense", "depthwise", "rest"
PARTS = (DENSE, DEPTHWISE, REST)

_FREE = {"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Shape", "Identity", "Cast"}
"""Names for the same bytes; a cast is fused into its reader."""
_FUSED = {"Clip", "Relu", "Add", "Sub", "Mul", "Div"}
_PRODUCTS = {"Conv", "Gemm", "MatMul"}


@dataclass(frozen=True)
class Work:
    """What one node does.

    Args:
        name: The name of its first output.
        operator: Its kind.
        part: One of `PARTS`.
        flops: A multiplication and an addition are two.
        read: Bytes of its inputs, constants among them.
        written: Bytes of its outputs.
    """

    name: str
    operator: str
    part: str
    flops: float
    read: float
    written: float


def count(model: ModelProto, batch: int = 1) -> list[Work]:
    """Counts the work of every node that is not free.

    Args:
        model: N is free in its input.
        batch: Frames at once.
    """
    sized = _with_batch(model, batch)
    shapes = _shapes(sized)
    producers = {name: node for node in sized.graph.node for name in node.output}
    users = uses(sized.graph.node)
    found = []
    for node in sized.graph.node:
        if node.op_type in _FREE:
            continue
        fused = _fused_into(node, producers, users)
        inputs = [name for name in node.input if name and name != fused]
        part, flops = _cost(node, shapes)
        found.append(
            Work(
                node.output[0],
                node.op_type,
                part,
                flops,
                _touched(node, inputs, shapes),
                0.0 if fused else sum(shapes[name].bytes for name in node.output),
            )
        )
    return found


@dataclass(frozen=True)
class Machine:
    """What a machine can do at most.

    Args:
        flops_per_s: In matrix products.
        bytes_per_s: From the bytes that a node touches to how many move in a second.
    """

    flops_per_s: float
    bytes_per_s: Callable[[float], float]


def floors_ms(work: list[Work], machine: Machine) -> dict[str, float]:
    """Returns the least time by part, and `all` of them: one node after another."""
    found = dict.fromkeys(PARTS, 0.0)
    for one in work:
        moved = one.read + one.written
        seconds = one.flops / machine.flops_per_s
        if moved:
            seconds = max(seconds, moved / machine.bytes_per_s(moved))
        found[one.part] += seconds * 1e3
    return {**found, "all": sum(found.values())}


def constant_bytes(model: ModelProto) -> float:
    """Returns the bytes of all constants, each once, however many nodes share it."""
    return sum(
        float(math.prod(tensor.dims) * _width(tensor.data_type))
        for tensor in model.graph.initializer
    )


def unavoidable_ms(flops: float, moved: float, machine: Machine) -> float:
    """Returns a floor that trusts every cache.

    Args:
        flops: Of all nodes.
        moved: Bytes that must be read once: the frame and the constants.
        machine: What it runs on.
    """
    return max(flops / machine.flops_per_s, moved / machine.bytes_per_s(moved)) * 1e3


def _with_batch(model: ModelProto, batch: int) -> ModelProto:
    sized = ModelProto()
    sized.CopyFrom(model)
    del sized.graph.value_info[:]
    sized.graph.input[0].type.tensor_type.shape.dim[0].dim_value = batch
    for output in sized.graph.output:
        output.type.tensor_type.ClearField("shape")
    return shape_inference.infer_shapes(sized, strict_mode=True, data_prop=True)


@dataclass(frozen=True)
class _Shape:
    sizes: tuple[int, ...]
    width: int

    @property
    def bytes(self) -> float:
        return float(math.prod(self.sizes) * self.width)


Shapes = dict[str, _Shape]


def _shapes(model: ModelProto) -> Shapes:
    found = {}
    graph = model.graph
    for info in (*graph.input, *graph.value_info, *graph.output):
        kind = info.type.tensor_type
        sizes = tuple(dim.dim_value for dim in kind.shape.dim)
        if 0 in sizes:
            raise ValueError(f"{info.name} has no constant shape: {sizes}")
        found[info.name] = _Shape(sizes, _width(kind.elem_type))
    for tensor in graph.initializer:
        found[tensor.name] = _Shape(tuple(tensor.dims), _width(tensor.data_type))
    return found


def _width(kind: int) -> int:
    return onnx.helper.tensor_dtype_to_np_dtype(kind).itemsize


def _touched(node: NodeProto, inputs: list[str], shapes: Shapes) -> float:
    """Returns the bytes read; of what a slice or a gather reads, those that it keeps."""
    if node.op_type in ("Slice", "Gather"):
        return shapes[node.output[0]].bytes
    return sum(shapes[name].bytes for name in inputs)


def _fused_into(
    node: NodeProto, producers: dict[str, NodeProto], users: dict[str, list[NodeProto]]
) -> str | None:
    """Returns the input that comes straight from a product, or from what is fused into one."""
    if node.op_type not in _FUSED:
        return None
    for name in node.input:
        before = producers.get(name)
        if before is None or len(users[name]) > 1:
            continue
        if before.op_type in _PRODUCTS or _fused_into(before, producers, users):
            return name
    return None


def _cost(node: NodeProto, shapes: Shapes) -> tuple[str, float]:
    """Returns the part a node belongs to, and its FLOPs."""
    made = math.prod(shapes[node.output[0]].sizes)
    if node.op_type == "Conv":
        _, *kernel = shapes[node.input[1]].sizes
        part = DENSE if attribute(node, "group", 1) == 1 else DEPTHWISE
        return part, 2.0 * made * math.prod(kernel)
    if node.op_type in ("Gemm", "MatMul"):
        rows = math.prod(shapes[node.output[0]].sizes[:-1])
        return DENSE, 2.0 * made * math.prod(shapes[node.input[0]].sizes) / rows
    return REST, float(made)
