"""The half that builds: networks, parser, configuration, plans.

`FAKETRT_VERSION` decides which flags exist and what a network takes, as in the real ones. These
make a build fail, in the process that has them in its environment:

- `FAKETRT_BUILD`: `none` (refused), `raise`, `kill` (SIGKILL), `crash` (SIGSEGV)
- `FAKETRT_PAUSE`: a moment (`parse`, `build`, `serialized`) at which the file that
  `FAKETRT_PAUSE_FILE` names is made; the build goes on when it is removed
- `FAKETRT_BUILDS`: a file that gets a line for each build that begins
- `FAKETRT_INSPECTOR`: what the engine inspector says, JSON
- `FAKETRT_FAIL`: the plan's `fail`

A plan also holds how it was built (`built`).
"""

from __future__ import annotations

import enum
import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto

from ._runtime import MAGIC, DataType, ILogger, write_plan

__all__ = [
    "Builder",
    "BuilderFlag",
    "LayerType",
    "MemoryPoolType",
    "NetworkDefinitionCreationFlag",
    "OnnxParser",
    "ProfilingVerbosity",
]

MAJOR = int(os.environ.get("FAKETRT_VERSION", "10.3.0").split(".")[0])
_TYPES = {
    TensorProto.FLOAT: DataType.FLOAT,
    TensorProto.FLOAT16: DataType.HALF,
    TensorProto.UINT8: DataType.UINT8,
    TensorProto.INT8: DataType.INT8,
    TensorProto.INT32: DataType.INT32,
    TensorProto.INT64: DataType.INT32,
    TensorProto.BOOL: DataType.BOOL,
}
_STEPS = 4

if MAJOR < 10:

    class NetworkDefinitionCreationFlag(enum.IntEnum):
        EXPLICIT_BATCH = 0
        EXPLICIT_PRECISION = 1

elif MAJOR == 10:

    class NetworkDefinitionCreationFlag(enum.IntEnum):
        EXPLICIT_BATCH = 0
        STRONGLY_TYPED = 1

else:

    class NetworkDefinitionCreationFlag(enum.IntEnum):
        STRONGLY_TYPED = 1


if MAJOR < 11:

    class BuilderFlag(enum.IntEnum):
        FP16 = 0
        TF32 = 7
        OBEY_PRECISION_CONSTRAINTS = 12

else:

    class BuilderFlag(enum.IntEnum):
        TF32 = 7


if MAJOR >= 10:

    class IProgressMonitor:
        def __init__(self) -> None:
            pass

    __all__ += ["IProgressMonitor"]


class LayerType(enum.IntEnum):
    CONVOLUTION = 0
    ELEMENTWISE = 10
    CONSTANT = 18
    CAST = 25
    SHAPE = 27


class MemoryPoolType(enum.IntEnum):
    WORKSPACE = 0


class ProfilingVerbosity(enum.IntEnum):
    LAYER_NAMES_ONLY = 0
    NONE = 1
    DETAILED = 2


class HostMemory:
    """Like `IHostMemory`, it is a buffer and no `bytes`."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def __bytes__(self) -> bytes:
        return self._data


class Tensor:
    def __init__(self, name: str, dtype: DataType, shape: tuple[int, ...] = ()) -> None:
        self.name, self.dtype, self.shape = name, dtype, shape
        self.is_shape_tensor = False


class Layer:
    def __init__(self, node: onnx.NodeProto, types: dict[str, DataType]) -> None:
        self.name = node.output[0]
        kind = {"Conv": "CONVOLUTION", "Constant": "CONSTANT", "Cast": "CAST", "Shape": "SHAPE"}
        self.type = LayerType[kind.get(node.op_type, "ELEMENTWISE")]
        self._outputs = [Tensor(name, types[name]) for name in node.output]
        self.num_outputs = len(self._outputs)
        self.output_types: dict[int, DataType] = {}

    def get_output(self, index: int) -> Tensor:
        return self._outputs[index]


class PinnableLayer(Layer):
    precision: DataType | None = None

    def set_output_type(self, index: int, dtype: DataType) -> None:
        self.output_types[index] = dtype


class Network:
    def __init__(self, flags: int) -> None:
        self.flags = flags
        self.model = b""
        self.inputs: list[Tensor] = []
        self.layers: list[Layer] = []

    @property
    def num_inputs(self) -> int:
        return len(self.inputs)

    def get_input(self, index: int) -> Tensor:
        return self.inputs[index]

    @property
    def num_layers(self) -> int:
        return len(self.layers)

    def get_layer(self, index: int) -> Layer:
        return self.layers[index]


class ParserError:
    def __init__(self, text: str) -> None:
        self._text = text

    def desc(self) -> str:
        return self._text


class OnnxParser:
    def __init__(self, network: Network, logger: ILogger) -> None:
        self._network, self._logger = network, logger
        self._errors: list[ParserError] = []

    @property
    def num_errors(self) -> int:
        return len(self._errors)

    def get_error(self, index: int) -> ParserError:
        return self._errors[index]

    def parse(self, model: bytes) -> bool:
        _pause("parse")
        try:
            graph = onnx.shape_inference.infer_shapes(onnx.load_from_string(model)).graph
        except Exception as error:
            return self._refuse(f"Failed to parse ONNX model: {error}")
        unknown = [
            node.op_type for node in graph.node if node.op_type in ("GatherND", "NonZero", "Mod")
        ]
        if unknown:
            return self._refuse(f"[8] In node 0 (importNode): UNSUPPORTED_NODE: {unknown[0]}")
        values = (*graph.input, *graph.output, *graph.value_info)
        types = {value.name: _TYPES[value.type.tensor_type.elem_type] for value in values}
        kind = PinnableLayer if MAJOR < 11 else Layer
        self._network.model = model
        self._network.layers = [kind(node, types) for node in graph.node]
        self._network.inputs = [
            Tensor(value.name, types[value.name], _shape(value)) for value in graph.input
        ]
        return True

    def _refuse(self, text: str) -> bool:
        self._errors.append(ParserError(text))
        self._logger.log(ILogger.Severity.ERROR, text)
        return False


def _shape(value: onnx.ValueInfoProto) -> tuple[int, ...]:
    return tuple(
        -1 if dimension.dim_param else dimension.dim_value
        for dimension in value.type.tensor_type.shape.dim
    )


class Profile:
    def __init__(self) -> None:
        self.shapes: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {}

    def set_shape(self, input: str, min: Any, opt: Any, max: Any) -> None:  # noqa: A002
        assert tuple(opt) == tuple(max), "kernels are to be chosen for the greatest batch"
        self.shapes[input] = (tuple(min), tuple(max))


class TimingCache:
    def __init__(self, data: bytes) -> None:
        self.data = data

    def serialize(self) -> HostMemory:
        return HostMemory(self.data)


class Config:
    builder_optimization_level = 3
    profiling_verbosity = ProfilingVerbosity.LAYER_NAMES_ONLY
    progress_monitor: Any = None

    def __init__(self) -> None:
        self.flags = ["TF32"]
        self.pools: dict[str, int] = {}
        self.profiles: list[Profile] = []
        self.cache: TimingCache | None = None

    def set_flag(self, flag: BuilderFlag) -> None:
        self.flags.append(flag.name)

    def clear_flag(self, flag: BuilderFlag) -> None:
        self.flags.remove(flag.name)

    def set_memory_pool_limit(self, pool: MemoryPoolType, pool_size: int) -> None:
        self.pools[pool.name] = pool_size

    def add_optimization_profile(self, profile: Profile) -> int:
        self.profiles.append(profile)
        return len(self.profiles) - 1

    def create_timing_cache(self, serialized_timing_cache: bytes) -> TimingCache:
        return TimingCache(bytes(serialized_timing_cache))

    def set_timing_cache(self, cache: TimingCache, ignore_mismatch: bool) -> bool:
        if cache.data.startswith(b"other version") and not ignore_mismatch:
            return False
        self.cache = cache
        return True

    def get_timing_cache(self) -> TimingCache | None:
        return self.cache


class Builder:
    def __init__(self, logger: ILogger) -> None:
        self._logger = logger

    def create_network(self, flags: int = 0) -> Network:
        return Network(flags)

    def create_builder_config(self) -> Config:
        return Config()

    def create_optimization_profile(self) -> Profile:
        return Profile()

    def build_serialized_network(self, network: Network, config: Config) -> HostMemory | None:
        self._tell(config, 0, 2)
        if "FAKETRT_BUILDS" in os.environ:
            with Path(os.environ["FAKETRT_BUILDS"]).open("a") as builds:
                builds.write(f"{os.getpid()}\n")
        _pause("build")
        if config.cache is not None:
            config.cache.data += b"measured;"
        how = os.environ.get("FAKETRT_BUILD", "")
        if how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if how == "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        if how == "raise":
            raise RuntimeError("the bindings raised")
        ((least, shape),) = config.profiles[0].shapes.values()
        if how == "none" or -1 in shape:
            message = "Error Code 10: Internal Error (Could not find any implementation for node)"
            self._logger.log(ILogger.Severity.ERROR, message)
            return None
        self._tell(config, 2, _STEPS)
        fields: dict[str, Any] = {"built": _built(network, config), "least": least[0]}
        if "FAKETRT_INSPECTOR" in os.environ:
            fields["inspector"] = json.loads(os.environ["FAKETRT_INSPECTOR"])
        if "FAKETRT_FAIL" in os.environ:
            fields["fail"] = os.environ["FAKETRT_FAIL"]
        plan = write_plan(network.model, shape[0], **fields)
        assert plan.startswith(MAGIC)
        _pause("serialized")
        return HostMemory(plan)

    def _tell(self, config: Config, first: int, last: int) -> None:
        monitor = config.progress_monitor
        if monitor is None:
            return
        if first == 0:
            monitor.phase_start("Building engine", None, _STEPS)
        for step in range(first, last):
            monitor.phase_start("Timing tactics", "Building engine", 2)
            assert monitor.step_complete("Timing tactics", 0)
            monitor.phase_finish("Timing tactics")
            assert monitor.step_complete("Building engine", step)
        if last == _STEPS:
            monitor.phase_finish("Building engine")


def _built(network: Network, config: Config) -> dict[str, Any]:
    return {
        "network_flags": network.flags,
        "flags": config.flags,
        "pools": config.pools,
        "level": config.builder_optimization_level,
        "verbosity": config.profiling_verbosity.name,
        "pinned": [
            layer.name
            for layer in network.layers
            if getattr(layer, "precision", None) is DataType.FLOAT
            and set(layer.output_types.values()) == {DataType.FLOAT}
        ],
    }


def _pause(moment: str) -> None:
    if os.environ.get("FAKETRT_PAUSE") != moment:
        return
    file = Path(os.environ["FAKETRT_PAUSE_FILE"])
    file.write_text(str(os.getpid()))
    while file.exists():
        time.sleep(0.01)
