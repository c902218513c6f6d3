"""Proof that an FP16 graph gives a finite score for every frame.

Walks the graph once with interval arithmetic. Every FP16 tensor must stay within FP16's range,
except where the very next thing done to it is a saturation; what FP16 spoils must be FP32.
"""

from __future__ import annotations

from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from .precision import ELEMENTWISE, GREATEST, MOVES, input_range
from .ranges import UNKNOWN, Range, bound, constant_range
from .simplify import uses

_HALF_OPERATORS = ELEMENTWISE | MOVES | {"Conv", "Cast"}


def unsound(model: ModelProto) -> list[str]:
    """Lists what could make a score of an FP16 graph infinite, NaN or imprecise.

    Args:
        model: As `precision.to_half` writes it.

    Returns:
        A sentence each; none for a sound graph.
    """
    return _Walk(model).problems()


class _Walk:
    def __init__(self, model: ModelProto) -> None:
        tensors = model.graph.initializer
        self.nodes = list(model.graph.node)
        self.constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in tensors}
        self.half = {t.name for t in tensors if t.data_type == TensorProto.FLOAT16}
        self.ranges = {value.name: input_range(value) for value in model.graph.input}
        self.ranges |= {
            name: constant_range(array)
            for name, array in self.constants.items()
            if array.dtype.kind in "fiu"
        }
        self.users = uses(self.nodes)

    def problems(self) -> list[str]:
        found = []
        for node in self.nodes:
            is_half = self._is_half(node)
            inputs = [self.ranges.get(name, UNKNOWN) for name in node.input if name]
            result = bound(node, inputs, self.constants)
            if is_half:
                self.half |= set(node.output)
                if node.op_type not in _HALF_OPERATORS:
                    found.append(f"{node.op_type} {node.name} is computed in FP16")
                elif result.greatest > GREATEST and not self._is_saturated(node.output[0]):
                    found.append(f"{node.op_type} {node.output[0]} may overflow in FP16")
            for name in node.output:
                self.ranges[name] = self._held(result) if is_half else result
        found += [
            f"the output {o} is FP16" for o in self.users if o in self.half and not self.users[o]
        ]
        return found

    def _is_half(self, node: NodeProto) -> bool:
        if node.op_type == "Cast":
            target: int = helper.get_attribute_value(node.attribute[0])
            return target == TensorProto.FLOAT16
        return bool(self.half & set(node.input))

    def _held(self, result: Range) -> Range:
        """Bounds of an FP16 tensor: beyond its range lies infinity."""
        return result if result.greatest <= GREATEST else UNKNOWN

    def _is_saturated(self, name: str) -> bool:
        """Whether all that reads a tensor saturates it, adding a constant first at most."""
        return bool(self.users[name]) and all(self._saturates(user) for user in self.users[name])

    def _saturates(self, node: NodeProto) -> bool:
        if node.op_type == "Clip":
            return all(name in self.constants for name in node.input[1:3]) and len(node.input) == 3
        if node.op_type == "Relu":
            return self._is_saturated(node.output[0])
        biased = node.op_type == "Add" and any(name in self.constants for name in node.input)
        return biased and self._is_saturated(node.output[0])
