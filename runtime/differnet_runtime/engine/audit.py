"""Whether TensorRT made of the graph what its types say: weights in half, the score in single.

Reads the layers as the engine inspector lists them. Its JSON was never written for programs and
differs between versions, so what it leaves out is `unknown`, never wrong:

- 8.6 and 10: a tensor has `Format/Datatype`, such as "Row major linear FP16 format"; a layer may
  have `Weights` and `Bias` with `Type` and `Count`. What Myelin fused may be one layer that tells
  nothing of its weights.
- 11: `Datatype` and `Format` are apart, and a fused kernel has `Constants` with `Dimensions`.

The rules were tried on dumps of TensorRT-RTX's compiler, of which 11's is a relative; no engine of
a real device was seen yet.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple

from ..metadata import Part, Precision

Layer = dict[str, Any]
"""One layer of the inspector's JSON: `Name`, `LayerType`, `Inputs`, `Outputs`, ..."""

_TOLERANCE = 0.05
_SMALL = 2 * 2**20
"""Bytes that padding and constants made by the compiler may add, however small the model."""
_PLAN_OVERHEAD = 16 * 2**20
"""Bytes that a plan may hold besides weights."""
_MATRIX = 4096
"""Fewer weights are no matrix worth a kernel's time."""

_TYPES = (
    ("FP32", r"FP32|Float(32)?\b|kFLOAT"),
    ("FP16", r"FP16|Half|kHALF"),
    ("BF16", r"BF16|BFloat16"),
    ("INT8", r"\bU?Int8\b"),
    ("INT32", r"Int32\b"),
    ("INT64", r"Int64\b"),
    ("BOOL", r"Bool\b"),
)
_BYTES = {"FP32": 4, "FP16": 2, "BF16": 2, "INT8": 1, "INT32": 4, "INT64": 8, "BOOL": 1}


class Check(Part):
    """One rule.

    Args:
        name: What it asks.
        outcome: `unknown` where the inspector does not tell.
        detail: What was found.
    """

    name: str
    outcome: Literal["passed", "failed", "unknown"]
    detail: str

    def __str__(self) -> str:
        """Returns one line for a terminal."""
        return f"{self.name}: {self.outcome} ({self.detail})"


class AuditReport(Part):
    """All rules, and how many kernels a frame takes."""

    kernels: int
    checks: tuple[Check, ...]

    @property
    def failures(self) -> tuple[Check, ...]:
        """The rules that the engine breaks."""
        return tuple(check for check in self.checks if check.outcome == "failed")


def read_layers(inspector_json: str) -> list[Layer]:
    """Returns the layers in the engine inspector's JSON; none where there is no detail.

    Raises:
        ValueError: It is not JSON.
    """
    layers = json.loads(inspector_json).get("Layers", [])
    return [layer for layer in layers if isinstance(layer, dict)]  # names only, without detail


def audit(
    layers: Sequence[Layer], *, precision: Precision, weight_bytes: int, plan_bytes: int
) -> AuditReport:
    """Judges an engine.

    Args:
        layers: Of the engine; see `read_layers`. RTX's log gives dictionaries of the same keys.
        precision: Of the graph.
        weight_bytes: What the weights take in the model file, in the precision they have there;
            the file's size will do, which hardly holds anything else.
        plan_bytes: Size of the plan, which stands in where the layers do not list their weights.
    """
    return AuditReport(
        kernels=sum(_type(layer) not in ("signal", "wait") for layer in layers),
        checks=(
            _weight_bytes(layers, weight_bytes, plan_bytes),
            _no_single_matrix(layers, precision),
            _score_head(layers),
        ),
    )


def _weight_bytes(layers: Sequence[Layer], expected: int, plan_bytes: int) -> Check:
    name = "weights take no more than in the model file"
    listed, allowed = listed_weight_bytes(layers), expected * (1 + _TOLERANCE)
    detail = f"{_mb(listed)} listed, {_mb(expected)} expected"
    if expected * (1 - _TOLERANCE) <= listed <= allowed + _SMALL:
        return _check(name, True, detail)
    # Some kernels do not list theirs, and weights that several kernels share may be listed by each
    # under a name of its own. None can be missing: the scores would tell.
    detail = f"{detail}; the plan takes {_mb(plan_bytes)}"
    if plan_bytes > allowed + _PLAN_OVERHEAD:
        return _check(name, False, detail)
    # Doubled weights of a small model would hide in what else a plan holds.
    told = 2 * expected > allowed + _PLAN_OVERHEAD
    return Check(name=name, outcome="passed" if told else "unknown", detail=detail)


def listed_weight_bytes(layers: Sequence[Layer]) -> int:
    """Returns the bytes of all weights that the layers list, each once."""
    sizes = {weight.name: weight.size * _BYTES[weight.kind] for weight in _weights(layers)}
    return sum(sizes.values())


def _no_single_matrix(layers: Sequence[Layer], precision: Precision) -> Check:
    name = "no FP32 weights of a fully connected layer or convolution"
    if precision == "fp32":
        return Check(name=name, outcome="passed", detail="the graph is FP32")
    matrices = [weight for weight in _weights(layers) if weight.is_matrix]
    if not matrices:
        return Check(name=name, outcome="unknown", detail="the inspector lists no weights")
    single = [f"{m.name} with {m.size} weights" for m in matrices if m.kind == "FP32"]
    detail = f"{len(matrices)} tensors" if not single else ", ".join(single[:3])
    return _check(name, not single, detail)


def _score_head(layers: Sequence[Layer]) -> Check:
    name = "the score is computed in FP32"
    makers = [
        layer
        for layer in layers
        if any(_named(tensor, "score") for tensor in layer.get("Outputs", ()))
    ]
    if not makers:
        return Check(name=name, outcome="unknown", detail="no layer is listed that gives `score`")
    maker = makers[0]
    given = [_datatype(tensor) for tensor in maker.get("Outputs", ()) if _named(tensor, "score")]
    read = [_datatype(tensor) for tensor in maker.get("Inputs", ()) if isinstance(tensor, dict)]
    detail = f"{maker.get('Name', '?')} reads {', '.join(map(str, read))}"
    if given[0] is None or not read or None in read:
        return Check(name=name, outcome="unknown", detail=detail)
    # The latents come in FP32; a coupling fused with the score also reads its subnet's FP16 output.
    return _check(name, given[0] == "FP32" and any(kind != "FP16" for kind in read), detail)


class _Weights(NamedTuple):
    name: str
    size: int
    kind: str
    is_matrix: bool


def _weights(layers: Sequence[Layer]) -> Iterator[_Weights]:
    """Yields every tensor of weights that the layers list."""
    for layer in layers:
        for constant in layer.get("Constants", ()):
            kind, shape = _datatype(constant), constant.get("Dimensions")
            if kind and isinstance(shape, list):
                count, sides = math.prod(shape), sum(side > 1 for side in shape)
                is_matrix = sides > 1 and count >= _MATRIX
                yield _Weights(str(constant.get("Name")), count, kind, is_matrix)
        for key in ("Weights", "Bias"):
            listed = layer.get(key)
            if isinstance(listed, dict) and "Count" in listed:
                kind, count = _match(str(listed.get("Type"))), int(listed["Count"])
                is_matrix = key == "Weights" and count >= _MATRIX
                if kind:
                    yield _Weights(f"{layer.get('Name')} {key}", count, kind, is_matrix)


def _named(tensor: object, name: str) -> bool:
    return isinstance(tensor, dict) and tensor.get("Name") == name


def _type(layer: Layer) -> str:
    return str(layer.get("LayerType", ""))


def _datatype(tensor: dict[str, Any]) -> str | None:
    return _match(str(tensor.get("Datatype") or tensor.get("Format/Datatype") or ""))


def _match(text: str) -> str | None:
    for name, pattern in _TYPES:
        if re.search(pattern, text, re.IGNORECASE):
            return name
    return None


def _check(name: str, right: bool, detail: str) -> Check:
    return Check(name=name, outcome="passed" if right else "failed", detail=detail)


def _mb(count: int) -> str:
    return f"{count / 1e6:.1f} MB"
