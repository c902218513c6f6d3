"""Audits whether an engine follows the graph's types: FP16 weights, and a score in FP32.

The engine inspector's list of layers shows a rule, contradicts it, or does not show it: its JSON
was never meant for programs and differs between versions, and what it omits is no evidence.

- 8.6 and 10: a tensor has `Format/Datatype`, such as "Row major linear FP16 format"; a layer may
  have `Weights` and `Bias` with `Type` and `Count`. What Myelin fused may be one layer that lists
  none of its weights.
- 11: `Datatype` and `Format` are apart, and a fused kernel has `Constants` with `Dimensions`.

The rules were tried on dumps of TensorRT-RTX's compiler, which is related to that of TensorRT 11;
no engine of a real device was seen yet.

`dry_build` builds without a GPU, with NVIDIA's own parser and compiler in TensorRT-RTX. It shows,
on any x86-64 machine, that they accept the graph, and which kernels they make of it. TensorRT-RTX
is another product and does not know Jetson Orin (SM87): an engine is built, tested and audited
again on its device.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import AfterValidator

from ...errors import BackendUnavailableError, EngineError
from ...installation import install_line
from ...model_file.contract import StrictModel
from ...model_file.metadata import Precision

Layer = dict[str, Any]
"""One layer of the inspector's JSON: `Name`, `LayerType`, `Inputs`, `Outputs`, ..."""

_TOLERANCE = 0.05
_SMALL = 2 * 2**20
"""Bytes that padding and the compiler's constants may add to any model."""
_PLAN_OVERHEAD = 16 * 2**20
"""Bytes that a plan may hold besides weights."""
_LONGEST_DETAIL = 4000
_MATRIX = 4096
"""Least number of weights of a matrix that matters for speed."""

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


Outcome = Literal["shown", "contradicted", "not shown"]


def _shortened(text: str) -> str:
    """Cuts a text that names of fused layers made too long for a message between processes."""
    return text if len(text) <= _LONGEST_DETAIL else f"{text[:_LONGEST_DETAIL]} ..."


class Check(StrictModel):
    """The outcome of one rule.

    Args:
        name: The rule in words.
        outcome: `not shown` if the inspector does not list what is needed.
        detail: What was found, in words.
    """

    name: str
    outcome: Outcome
    detail: Annotated[str, AfterValidator(_shortened)]

    def __str__(self) -> str:
        """Returns one line for a terminal."""
        return f"{self.name}: {self.outcome} ({self.detail})"


class AuditReport(StrictModel):
    """The outcome of all rules, and the number of kernels."""

    kernels: int
    checks: tuple[Check, ...]

    @property
    def contradicted(self) -> tuple[Check, ...]:
        """The rules that the engine breaks."""
        return self._of("contradicted")

    @property
    def not_shown(self) -> tuple[Check, ...]:
        """The rules for which the inspector does not list enough."""
        return self._of("not shown")

    def _of(self, outcome: Outcome) -> tuple[Check, ...]:
        return tuple(check for check in self.checks if check.outcome == outcome)

    @property
    def summary(self) -> str:
        """One line for a terminal: how many rules are shown."""
        text = f"{len(self._of('shown'))} of {len(self.checks)} rules shown"
        if self.contradicted:
            text += f", {len(self.contradicted)} contradicted"
        if self.not_shown:
            text += f"; {len(self.not_shown)} not shown, since the inspector does not tell"
        return text


def read_layers(inspector_json: str) -> list[Layer]:
    """Returns the layers in the engine inspector's JSON; none if it has no detail.

    Raises:
        ValueError: It is not JSON.
    """
    layers = json.loads(inspector_json).get("Layers", [])
    return [layer for layer in layers if isinstance(layer, dict)]  # names only, without detail


def audit(
    layers: Sequence[Layer], *, precision: Precision, weight_bytes: int, plan_bytes: int
) -> AuditReport:
    """Audits an engine.

    Args:
        layers: The engine's layers; see `read_layers` and `dry_build`.
        precision: `fp32`, `fp16` or `int8`, as the model file was exported.
        weight_bytes: Size of the weights in the model file; the file's size is close enough.
        plan_bytes: Size of the plan, which counts if the layers do not list their weights.
    """
    found = {"weights take no more than in the model file": _size(layers, weight_bytes, plan_bytes)}
    if precision != "fp32":
        name = "no FP32 weights of a fully connected layer or convolution"
        found[name] = _matrices(layers, weight_bytes)
    found["the score is computed in FP32"] = _score_head(layers)
    return AuditReport(
        kernels=sum(_type(layer) not in ("signal", "wait") for layer in layers),
        checks=tuple(
            Check(name=name, outcome=outcome, detail=detail)
            for name, (outcome, detail) in found.items()
        ),
    )


def _size(layers: Sequence[Layer], expected: int, plan_bytes: int) -> tuple[Outcome, str]:
    """Compares the size of the weights with that in the model file."""
    listed, allowed = listed_weight_bytes(layers), expected * (1 + _TOLERANCE)
    detail = f"{_mb(listed)} listed, {_mb(expected)} expected"
    if expected * (1 - _TOLERANCE) <= listed <= allowed + _SMALL:
        # Doubled weights of a small model would be hidden by what the compiler may add.
        told = listed <= allowed or 2 * expected > allowed + _SMALL
        return "shown" if told else "not shown", detail
    # Some kernels do not list their weights, and weights that several kernels share may be listed
    # by each under a name of its own. None can be missing: the scores would be wrong.
    detail += f"; the plan takes {_mb(plan_bytes)}"
    if plan_bytes > allowed + _PLAN_OVERHEAD:
        return "contradicted", detail
    # Doubled weights of a small model would be hidden by what else a plan holds.
    return "shown" if 2 * expected > allowed + _PLAN_OVERHEAD else "not shown", detail


def listed_weight_bytes(layers: Sequence[Layer]) -> int:
    """Returns the total size of all weights that the layers list, each counted once."""
    sizes = {weight.name: weight.size * _BYTES[weight.kind] for weight in _weights(layers)}
    return sum(sizes.values())


def _matrices(layers: Sequence[Layer], expected: int) -> tuple[Outcome, str]:
    """Looks for large FP32 weights."""
    matrices = [weight for weight in _weights(layers) if weight.is_matrix]
    if not matrices:
        return "not shown", "the inspector lists no weights"
    single = [f"{m.name} with {m.size} weights" for m in matrices if m.kind == "FP32"]
    if single:
        return "contradicted", ", ".join(single[:3])
    listed = listed_weight_bytes(layers)
    detail = f"none among the {_mb(listed)} of {_mb(expected)} that are listed"
    return "shown" if listed >= expected * (1 - _TOLERANCE) else "not shown", detail


def _score_head(layers: Sequence[Layer]) -> tuple[Outcome, str]:
    """Judges by the types that the layer of the score reads.

    The latents come in FP32; a coupling fused with the score also reads its subnet's FP16 output.
    A region that TensorRT fused as a whole may use any type inside.
    """
    for maker in layers:
        outputs = [one for one in maker.get("Outputs", ()) if isinstance(one, dict)]
        given = [_datatype(one) for one in outputs if one.get("Name") == "score"]
        if not given:
            continue
        read = [_datatype(tensor) for tensor in maker.get("Inputs", ()) if isinstance(tensor, dict)]
        detail = f"{maker.get('Name', '?')} reads {', '.join(map(str, read))}"
        opaque = "ForeignNode" in str(maker.get("Name")) or _type(maker) == "Myelin"
        halved = bool(read) and set(read) <= {"FP16", "BF16"}
        if given[0] is not None and (given[0] != "FP32" or halved):
            return "contradicted", detail
        known = given[0] is not None and None not in read and "FP32" in read
        return "shown" if known and not opaque else "not shown", detail
    return "not shown", "no layer is listed that gives `score`"


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


def _type(layer: Layer) -> str:
    return str(layer.get("LayerType", ""))


def _datatype(tensor: dict[str, Any]) -> str | None:
    return _match(str(tensor.get("Datatype") or tensor.get("Format/Datatype") or ""))


def _match(text: str) -> str | None:
    for name, pattern in _TYPES:
        if re.search(pattern, text, re.IGNORECASE):
            return name
    return None


def _mb(count: int) -> str:
    return f"{count / 1e6:.1f} MB"


TARGETS = ("SM75", "SM80", "SM86", "SM89", "SM120", "SM121")
"""Compute capabilities that TensorRT-RTX builds for."""

_ROW = re.compile(
    r"Name: (\S+), LayerType: (\w+), Inputs: \[(.*?)\], Constants: \[(.*?)\], Outputs: \[(.*?)\], "
    r"TacticName: ([^,]*), StreamId: (\d+)"
)
_KEYS = ("Name", "LayerType", "Inputs", "Constants", "Outputs", "TacticName", "StreamId")
_TENSOR = re.compile(r"Name: (\S+), Dimensions: \[([\d,]*)\][^}]*?Datatype: (\w+)")


@dataclass(frozen=True)
class DryBuild:
    """The result of a build with TensorRT-RTX.

    Args:
        plan: The plan, which runs under TensorRT-RTX only.
        layers: Its fused kernels, in the form of the engine inspector.
    """

    plan: bytes
    layers: list[Layer]


def dry_build(model_file: Path, target: str = "SM86", *, batch: int = 1) -> DryBuild:
    """Builds a model file for a compute capability, on the CPU.

    Args:
        model_file: Path of the exported file.
        target: Compute capability, one of `TARGETS`.
        batch: Frames that the plan takes at once.

    Raises:
        BackendUnavailableError: TensorRT-RTX is not installed.
        EngineError: The graph can't be parsed or built; says why.
    """
    rtx = _load()
    log = _make_log(rtx)
    builder = rtx.Builder(log)
    network = builder.create_network(1 << int(rtx.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = rtx.OnnxParser(network, log)
    if not parser.parse_from_file(str(model_file)):
        errors = "; ".join(parser.get_error(k).desc() for k in range(parser.num_errors))
        raise EngineError(f"TensorRT-RTX can't parse {model_file}: {errors}")
    config = builder.create_builder_config()
    config.profiling_verbosity = rtx.ProfilingVerbosity.DETAILED
    config.num_compute_capabilities = 1
    config.set_compute_capability(getattr(rtx.ComputeCapability, target), 0)
    image = network.get_input(0)
    shape = (batch, *tuple(image.shape)[1:])
    profile = builder.create_optimization_profile()
    profile.set_shape(image.name, shape, shape, shape)
    config.add_optimization_profile(profile)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise EngineError(f"TensorRT-RTX can't build {model_file}: {'; '.join(log.errors)}")
    return DryBuild(bytes(memoryview(plan)), _layers(log.dump))


def _load() -> Any:  # noqa: ANN401  # a module without type information
    try:
        import tensorrt_rtx
    except ImportError as error:
        raise BackendUnavailableError(
            "TensorRT-RTX is not installed; it builds without a GPU, on x86-64. Install it with "
            f"`{install_line('rtx')}`."
        ) from error
    return tensorrt_rtx


def _make_log(rtx: Any) -> Any:  # noqa: ANN401
    class Log(rtx.ILogger):  # type: ignore[misc]
        """Keeps errors and the list of kernels, which nothing else returns without a GPU."""

        def __init__(self) -> None:
            super().__init__()
            self.errors: list[str] = []
            self.dump = ""

        def log(self, severity: Any, message: str) -> None:  # noqa: ANN401
            if "ERROR" in severity.name:
                self.errors.append(message)
            elif message.startswith("Layers:"):
                self.dump = message

    return Log()


def _layers(dump: str) -> list[Layer]:
    rows: list[Layer] = [dict(zip(_KEYS, found, strict=True)) for found in _ROW.findall(dump)]
    for row in rows:
        row.update({key: _tensors(row[key]) for key in ("Inputs", "Constants", "Outputs")})
    return rows


def _tensors(text: str) -> list[dict[str, object]]:
    return [
        {"Name": name, "Dimensions": [int(d) for d in shape.split(",") if d], "Datatype": kind}
        for name, shape, kind in _TENSOR.findall(text)
    ]
