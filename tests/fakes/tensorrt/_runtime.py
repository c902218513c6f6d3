"""The half that runs: plans are read, and executed by ONNX Runtime on the raw addresses.

Over a real driver, whose memory the CPU can't read, the tensors are copied to the host and back in
the stream: whoever has a GPU and no TensorRT can see streams, graphs and memory at work.

A plan is `FAKEPLAN1`, eight bytes of length, JSON, and the ONNX file. The JSON has `batch`,
`onnx_sha256`, perhaps `least` (the profile's least batch; else `batch`), `inspector` (what the
inspector says) and `fail`, one of `deserialize`, `context`, `enqueue`, `capture` (refused),
`capture-raise`, `stale` (the graph records nothing) and
`differs` (the graph gives other scores).
"""

from __future__ import annotations

import ctypes
import enum
import functools
import hashlib
import json
import os
from collections.abc import Iterable
from typing import Any

import numpy as np
import onnxruntime

MAGIC = b"FAKEPLAN1"
_TYPES = {"tensor(uint8)": "UINT8", "tensor(float)": "FLOAT", "tensor(float16)": "HALF"}
_DEVICE_POINTER = 3  # CU_POINTER_ATTRIBUTE_DEVICE_POINTER
_HostFunction = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


class DataType(enum.Enum):
    FLOAT = 0
    HALF = 1
    INT8 = 2
    INT32 = 3
    BOOL = 4
    UINT8 = 5
    FP8 = 6

    @property
    def numpy(self) -> np.dtype:
        return np.dtype(np.uint8 if self is DataType.UINT8 else np.float32)


class TensorIOMode(enum.Enum):
    NONE = 0
    INPUT = 1
    OUTPUT = 2


class LayerInformationFormat(enum.Enum):
    ONELINE = 0
    JSON = 1


class ILogger:
    class Severity(enum.IntEnum):
        INTERNAL_ERROR = 0
        ERROR = 1
        WARNING = 2
        INFO = 3
        VERBOSE = 4

    def __init__(self) -> None:
        pass

    def log(self, severity: Severity, msg: str) -> None:
        raise NotImplementedError


class Logger(ILogger):
    def log(self, severity: ILogger.Severity, msg: str) -> None:
        pass


def write_plan(onnx: bytes, batch: int, **fields: Any) -> bytes:
    """Returns the plan of an ONNX file for this batch."""
    head = {"batch": batch, "onnx_sha256": hashlib.sha256(onnx).hexdigest(), **fields}
    text = json.dumps(head, sort_keys=True).encode()
    return MAGIC + len(text).to_bytes(8, "little") + text + onnx


def _read_plan(plan: bytes) -> tuple[dict[str, Any], bytes]:
    start = len(MAGIC) + 8
    end = start + int.from_bytes(plan[len(MAGIC) : start], "little")
    try:
        fields, onnx = json.loads(plan[start:end]), plan[end:]
    except ValueError:
        os.abort()
    if hashlib.sha256(onnx).hexdigest() != fields["onnx_sha256"]:
        os.abort()  # as the real one may: it trusts what it is given
    return fields, onnx


class Runtime:
    def __init__(self, logger: ILogger) -> None:
        self._logger = logger

    def deserialize_cuda_engine(self, plan: bytes) -> ICudaEngine | None:
        if not plan.startswith(MAGIC):
            self._say("Error Code 1: Serialization (Current Version: 239, Serialized: 213)")
            return None
        fields, onnx = _read_plan(bytes(plan))
        if fields.get("fail") == "deserialize":
            self._say("Error Code 6: API Usage Error (The engine plan file is of another device.)")
            return None
        return ICudaEngine(Graph(fields, onnx, self._logger))

    def _say(self, message: str) -> None:
        self._logger.log(ILogger.Severity.ERROR, message)

    def __del__(self) -> None:
        _note("runtime closed")


class Graph:
    """What an engine, its contexts and its inspector share."""

    def __init__(self, fields: dict[str, Any], onnx: bytes, logger: ILogger) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        self.fields, self.logger = fields, logger
        self.batch = fields["batch"]
        self.session = onnxruntime.InferenceSession(
            onnx, options, providers=["CPUExecutionProvider"]
        )
        self.inputs = {tensor.name: tensor for tensor in self.session.get_inputs()}
        outputs = {tensor.name: tensor for tensor in self.session.get_outputs()}
        self.tensors = {**self.inputs, **outputs}

    def dtype(self, name: str) -> DataType:
        return DataType[_TYPES[self.tensors[name].type]]

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(d if isinstance(d, int) else -1 for d in self.tensors[name].shape)

    def at_batch(self, name: str) -> tuple[int, ...]:
        return tuple(self.batch if d == -1 else d for d in self.shape(name))

    def nbytes(self, name: str) -> int:
        return int(np.prod(self.at_batch(name))) * self.dtype(name).numpy.itemsize

    def view(self, name: str, address: int) -> np.ndarray:
        memory = (ctypes.c_char * self.nbytes(name)).from_address(address)
        return np.frombuffer(memory, self.dtype(name).numpy).reshape(self.at_batch(name))


class ICudaEngine:
    def __init__(self, graph: Graph) -> None:
        self._graph = graph

    @property
    def num_io_tensors(self) -> int:
        return len(self._graph.tensors)

    def get_tensor_name(self, index: int) -> str:
        return list(self._graph.tensors)[index]

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return TensorIOMode.INPUT if name in self._graph.inputs else TensorIOMode.OUTPUT

    def get_tensor_dtype(self, name: str) -> DataType:
        return self._graph.dtype(name)

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self._graph.shape(name)

    def get_tensor_profile_shape(self, name: str, profile_index: int) -> list[tuple[int, ...]]:
        assert profile_index == 0
        most = self._graph.fields["batch"]
        least = self._graph.fields.get("least", most)
        return [(batch, *self._graph.at_batch(name)[1:]) for batch in (least, most, most)]

    @property
    def device_memory_size_v2(self) -> int:
        return 4096

    def create_execution_context(self) -> IExecutionContext | None:
        if self._graph.fields.get("fail") == "context":
            message = "Error Code 2: OutOfMemory (Requested size was 123 bytes.)"
            self._graph.logger.log(ILogger.Severity.ERROR, message)
            return None
        return IExecutionContext(self, self._graph)

    def create_engine_inspector(self) -> EngineInspector:
        return EngineInspector(self._graph)

    def __del__(self) -> None:
        _note("engine closed")


class EngineInspector:
    def __init__(self, graph: Graph) -> None:
        self._graph = graph

    def get_engine_information(self, format: LayerInformationFormat) -> str:  # noqa: A002
        assert format is LayerInformationFormat.JSON
        return json.dumps(self._graph.fields.get("inspector", {"Layers": [], "Bindings": []}))


class IExecutionContext:
    """Puts each run into the stream as one host function, with the addresses of that moment."""

    def __init__(self, engine: ICudaEngine, graph: Graph) -> None:
        self._engine, self._graph = engine, graph  # the engine lives as long as its contexts
        self._fail = graph.fields.get("fail")
        self._addresses: dict[str, int] = {}
        self._runs: list[tuple[dict[str, int], bool]] = []
        self._staging = {} if _is_fake() else {n: _allocate(graph, n) for n in graph.tensors}
        # Without a reference to this object, which would then outlive its last user.
        self._function = _HostFunction(functools.partial(_run, graph, self._runs))
        self._ran = False

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        least, _, most = self._engine.get_tensor_profile_shape(name, 0)
        if shape[1:] != most[1:] or not least[0] <= shape[0] <= most[0]:
            return self._refuse("not in the profile")
        self._graph.batch = shape[0]
        return True

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self._graph.at_batch(name)

    def set_tensor_address(self, name: str, address: int) -> bool:
        if name not in self._graph.tensors:
            return self._refuse(f"{name} is no tensor of this engine")
        self._addresses[name] = address
        return True

    def execute_async_v3(self, stream_handle: int) -> bool:
        for name in self._graph.tensors:
            if not _reachable(self._addresses.get(name, 0), self._graph.nbytes(name)):
                return self._refuse(f"the address of {name} is not the device's")
        if not stream_handle:
            return self._refuse("the default stream")
        capturing = _capturing(stream_handle)
        if self._fail == "enqueue" or (capturing and self._fail == "capture"):
            return self._refuse("the enqueue was refused")
        if capturing and self._fail == "capture-raise":
            raise RuntimeError("the enqueue raised")
        if capturing and not self._ran:
            return self._refuse("operation not permitted: the first run can't be captured")
        if capturing and self._fail == "stale":
            return True
        self._ran = True
        outputs = self._graph.tensors.keys() - self._graph.inputs.keys()
        return (
            self._copy("cuMemcpyDtoHAsync_v2", self._graph.inputs.keys(), stream_handle)
            and _launch(stream_handle, self._function, self._number(capturing))
            and self._copy("cuMemcpyHtoDAsync_v2", outputs, stream_handle)
        )

    def _copy(self, function: str, names: Iterable[str], stream: int) -> bool:
        """Puts copies between the device and the staging memory, if there is one, into it."""
        codes = []
        for name in self._staging.keys() & set(names):
            ends = [ctypes.c_void_p(self._addresses[name]), self._staging[name]]
            to, source = ends if function == "cuMemcpyHtoDAsync_v2" else ends[::-1]
            size = ctypes.c_size_t(self._graph.nbytes(name))
            codes.append(getattr(_driver(), function)(to, source, size, ctypes.c_void_p(stream)))
        return not any(codes)

    def _number(self, capturing: bool) -> int:
        staging = {name: int(memory.value or 0) for name, memory in self._staging.items()}
        run = ({**self._addresses, **staging}, capturing)
        if run not in self._runs:
            self._runs.append(run)
        return self._runs.index(run)

    def _refuse(self, why: str) -> bool:
        self._graph.logger.log(ILogger.Severity.ERROR, f"Error Code 3: API Usage Error ({why})")
        return False

    def __del__(self) -> None:
        _note("context closed")
        for memory in self._staging.values():
            _driver().cuMemFreeHost(memory)


def _run(graph: Graph, runs: list[tuple[dict[str, int], bool]], number: int | None) -> None:
    addresses, captured = runs[number or 0]
    worse = np.float32(1.1 if captured and graph.fields.get("fail") == "differs" else 1.0)
    inputs = {name: graph.view(name, addresses[name]) for name in graph.inputs}
    results = graph.session.run(None, inputs)
    for tensor, value in zip(graph.session.get_outputs(), results, strict=True):
        graph.view(tensor.name, addresses[tensor.name])[...] = value * worse


@functools.cache
def _driver() -> ctypes.CDLL:
    return ctypes.CDLL("libcuda.so.1")


def _is_fake() -> bool:
    return hasattr(_driver(), "fakecuda_note")


def _note(text: str) -> None:
    try:
        _driver().fakecuda_note(text.encode())
    except (OSError, AttributeError):  # a test without our driver
        return


def _allocate(graph: Graph, name: str) -> ctypes.c_void_p:
    memory = ctypes.c_void_p()
    size = ctypes.c_size_t(graph.nbytes(name))
    assert _driver().cuMemHostAlloc(ctypes.byref(memory), size, 0) == 0
    return memory


def _reachable(address: int, size: int) -> bool:
    if not _is_fake():
        found = ctypes.c_void_p()
        place = ctypes.c_ulonglong(address)
        code = _driver().cuPointerGetAttribute(ctypes.byref(found), _DEVICE_POINTER, place)
        return code == 0 and found.value == address
    return bool(
        _driver().fakecuda_is_device_address(ctypes.c_ulonglong(address), ctypes.c_size_t(size))
    )


def _capturing(stream: int) -> bool:
    status = ctypes.c_int()
    _driver().cuStreamIsCapturing(ctypes.c_void_p(stream), ctypes.byref(status))
    return status.value == 1


def _launch(stream: int, function: Any, number: int) -> bool:
    code = _driver().cuLaunchHostFunc(ctypes.c_void_p(stream), function, ctypes.c_void_p(number))
    return bool(code == 0)
