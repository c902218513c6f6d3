"""A build without a GPU, by NVIDIA's own parser and compiler: TensorRT-RTX.

It shows, on any x86-64 machine, that NVIDIA's compiler takes the graph, and which kernels it makes
of it. TensorRT-RTX is a relative of TensorRT 11's compiler, not the same product, and does not
know Jetson Orin (SM87): an engine is built, tested and audited again on its device.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import BackendUnavailableError, EngineError
from ..installation import install_line
from .audit import Layer

TARGETS = ("SM75", "SM80", "SM86", "SM89", "SM120", "SM121")
"""Compute capabilities that it builds for."""

_ROW = re.compile(
    r"Name: (\S+), LayerType: (\w+), Inputs: \[(.*?)\], Constants: \[(.*?)\], Outputs: \[(.*?)\], "
    r"TacticName: ([^,]*), StreamId: (\d+)"
)
_KEYS = ("Name", "LayerType", "Inputs", "Constants", "Outputs", "TacticName", "StreamId")
_TENSOR = re.compile(r"Name: (\S+), Dimensions: \[([\d,]*)\][^}]*?Datatype: (\w+)")


@dataclass(frozen=True)
class DryBuild:
    """What the compiler made of a model file.

    Args:
        plan: The plan; it runs under TensorRT-RTX only.
        layers: Its fused kernels, in the form of the engine inspector.
    """

    plan: bytes
    layers: list[Layer]


def dry_build(model_file: Path, target: str = "SM86", *, batch: int = 1) -> DryBuild:
    """Builds a model file for a compute capability, on the CPU.

    Args:
        model_file: The exported file.
        target: One of `TARGETS`.
        batch: Frames at once.

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
        """Keeps errors and the list of kernels, which no other call gives without a GPU."""

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
