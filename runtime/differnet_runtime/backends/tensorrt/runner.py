"""Runs a TensorRT engine: in a stream of its own, with buffers that are allocated once.

Uses what TensorRT 8.6 to 11 have in common. Every failure of TensorRT becomes a `BackendError` that
quotes TensorRT's last message.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import BackendError
from ..base import HEADS, HEATMAP, IMAGE, SCORE, Backend, Outputs
from ..cuda import CudaGraph, Device, PrimaryContext, Tensor, cuda_errors, load_cuda, open_device
from .api import load, make_logger

ZERO_COPY_VARIABLE = "DIFFERNET_ZERO_COPY"
_NON_BLOCKING = 1
_RELATIVE, _ABSOLUTE = 1e-3, 1e-5
"""Tolerances between the same kernels on the same input, with and without a CUDA graph."""
_in_use: list[PrimaryContext] = []
"""Contexts with memory that was still viewed when their backend was closed."""

log = logging.getLogger(__name__)

_REBUILD = (
    "It was built with another version of TensorRT or for another GPU, or it is damaged: build "
    "it again on this device with `differnet engine`."
)


class LoadedEngine:
    """A deserialised plan with its execution context.

    The device's primary context must be current in every call.

    Args:
        plan: The plan that `differnet engine` built. TensorRT trusts it, and a damaged one can
            crash the process, so compare its hash first.
        batch: Frames to take at once, within the limits of the engine; None for its greatest batch.

    Raises:
        BackendUnavailableError: TensorRT is not installed.
        BackendError: TensorRT can't read the plan, or it is no engine of an exported model.
    """

    def __init__(self, plan: bytes, batch: int | None = None) -> None:
        self._trt = load()
        self._logger = make_logger()
        self._runtime: Any = None
        self._engine: Any = None
        self._context: Any = None
        try:
            self._open(plan)
            with self._errors("reading the engine's tensors"):
                self.image_shape, self.output_shapes = self._describe(batch)
        except BaseException:
            self.close()
            raise

    def _open(self, plan: bytes) -> None:
        with self._errors("reading the engine"):
            self._runtime = self._trt.Runtime(self._logger)
            self._engine = self._runtime.deserialize_cuda_engine(plan)
        if self._engine is None:
            raise BackendError(f"TensorRT can't read the engine: {self._told()}. {_REBUILD}")
        with self._errors("starting the engine"):
            self._context = self._engine.create_execution_context()
        if self._context is None:
            raise BackendError(
                f"TensorRT can't start the engine: {self._told()}. If the GPU's memory is used "
                "up, end other programs that use it, or build the engine for a smaller batch."
            )

    def bind(self, name: str, address: int) -> None:
        """Sets the address of a tensor on the device.

        Raises:
            BackendError: TensorRT refuses the address.
        """
        with self._errors(f"binding {name}"):
            bound = self._context.set_tensor_address(name, address)
        if not bound:
            raise BackendError(f"TensorRT refuses the memory for {name}: {self._told()}")

    def enqueue(self, stream: int) -> None:
        """Enqueues a run in a stream, given by its handle, without waiting for it.

        Raises:
            BackendError: TensorRT refuses; nothing was enqueued.
        """
        with self._errors("running the engine"):
            enqueued = self._context.execute_async_v3(stream)
        if not enqueued:
            raise BackendError(f"TensorRT did not run the engine: {self._told()}")

    def inspect(self) -> str:
        """Returns TensorRT's description of the engine's layers, as JSON.

        Its detail depends on the build (`ProfilingVerbosity`).
        """
        with self._errors("inspecting the engine"):
            inspector = self._engine.create_engine_inspector()
            return str(inspector.get_engine_information(self._trt.LayerInformationFormat.JSON))

    @property
    def device_memory(self) -> int:
        """Bytes of device memory that a run needs besides the weights and the tensors."""
        newer = getattr(self._engine, "device_memory_size_v2", None)  # since TensorRT 10
        return int(self._engine.device_memory_size if newer is None else newer)

    def close(self) -> None:
        """Drops context, engine and runtime, in this order; a second call does nothing."""
        self._context = self._engine = self._runtime = None

    def _describe(self, batch: int | None) -> tuple[tuple[int, ...], dict[str, tuple[int, ...]]]:
        """Reads the shapes, and fixes the batch, since a CUDA graph is valid for one shape only."""
        engine, context, trt = self._engine, self._context, self._trt
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        inputs = [n for n in names if engine.get_tensor_mode(n) == trt.TensorIOMode.INPUT]
        outputs = [name for name in names if name not in inputs]
        ours = {SCORE, HEATMAP, HEADS}
        if inputs != [IMAGE] or SCORE not in outputs or not {*outputs} <= ours:
            raise BackendError(
                f"this engine takes {inputs} and gives {outputs}; one of ours takes [{IMAGE!r}] "
                f"and gives {SCORE!r}, perhaps with {HEATMAP!r} and {HEADS!r}. {_REBUILD}"
            )
        types = {name: engine.get_tensor_dtype(name) for name in names}
        if types != {IMAGE: trt.DataType.UINT8, **dict.fromkeys(outputs, trt.DataType.FLOAT)}:
            raise BackendError(f"this engine's tensors have the types {types}. {_REBUILD}")
        shape = tuple(engine.get_tensor_shape(IMAGE))
        if -1 in shape:
            least, _, most = map(tuple, engine.get_tensor_profile_shape(IMAGE, 0))
            shape = most if batch is None else (min(max(batch, least[0]), most[0]), *most[1:])
        if not context.set_input_shape(IMAGE, shape):
            raise BackendError(f"TensorRT refuses the input shape {shape}: {self._told()}")
        shapes = {name: tuple(context.get_tensor_shape(name)) for name in outputs}
        if shapes[SCORE] != shape[:1] or any(s[:1] != shape[:1] for s in shapes.values()):
            raise BackendError(f"for images of {shape} this engine gives {shapes}. {_REBUILD}")
        return shape, shapes

    def _told(self) -> str:
        """Returns TensorRT's last error message."""
        errors = self._logger.errors
        return errors[-1].rstrip(". ") if errors else "it gave no reason"

    @contextlib.contextmanager
    def _errors(self, doing: str) -> Iterator[None]:
        try:
            yield
        except BackendError:
            raise
        except Exception as error:  # the bindings raise RuntimeError, TypeError and ValueError
            raise BackendError(f"{doing}: TensorRT failed ({error}; {self._told()})") from error


def _use_zero_copy(device: Device, asked: bool | None) -> bool:
    """Decides whether the engine works in page-locked host memory.

    On an integrated GPU that saves a copy. NVIDIA's table calls pinned memory uncached there, and
    recommends it for small buffers ("CUDA for Tegra", Memory Selection,
    https://docs.nvidia.com/cuda/cuda-for-tegra-appnote/): a frame is small and read once.
    `differnet bench` measures both.

    Raises:
        BackendError: DIFFERNET_ZERO_COPY is neither 0 nor 1, or the device does not support it.
    """
    text = os.environ.get(ZERO_COPY_VARIABLE, "")
    if asked is None and text:
        if text not in ("0", "1"):
            raise BackendError(f"{ZERO_COPY_VARIABLE} is 0 or 1; received {text!r}")
        asked = text == "1"
    if asked and not device.can_map_host_memory:
        raise BackendError(
            f"{device.name} can't work in host memory: leave zero copy off ({ZERO_COPY_VARIABLE}=0)"
        )
    return device.integrated and device.can_map_host_memory if asked is None else asked


@dataclass
class _EngineSlot:
    """Memory for a batch, and the CUDA graph that runs the engine on it."""

    image: Tensor
    graph: CudaGraph | None = None

    def drop_graph(self) -> None:
        if self.graph is not None:
            self.graph.close()
            self.graph = None


class TensorRTBackend(Backend):
    """Runs an engine with TensorRT on the first GPU.

    One thread makes it, uses it and closes it. On a device whose GPU shares the CPU's memory
    (Jetson) the engine reads the frame where the CPU wrote it; elsewhere frames are copied from
    page-locked memory in the engine's stream.

    Args:
        plan: The plan that `differnet engine` built. TensorRT trusts it, and a damaged one can
            crash the process, so compare its hash first.
        batch: Frames to take at once, within the limits of the engine; None for its greatest batch.
        cuda_graph: Whether to launch the whole engine at once, if the device supports it and the
            result is the same; otherwise `graph_reason` says why not.
        zero_copy: Whether the engine works in the host's memory; None follows DIFFERNET_ZERO_COPY
            (`0` or `1`) if it is set, and otherwise depends on whether the GPU shares that memory.

    Raises:
        BackendUnavailableError: No driver, no GPU, no pycuda or no TensorRT; says which.
        BackendError: TensorRT can't read or run the plan, or memory is used up.

    Example:
        >>> with TensorRTBackend(engine.plan, batch=1) as backend:  # doctest: +SKIP
        ...     scores = backend.infer(frames).scores
    """

    name = "tensorrt"

    def __init__(
        self,
        plan: bytes,
        *,
        batch: int | None = None,
        cuda_graph: bool = True,
        zero_copy: bool | None = None,
    ) -> None:
        self.device = open_device()  # before TensorRT, which would crash later without a driver
        self.graph_reason: str | None = None if cuda_graph else "it was not asked for"
        """Why no CUDA graph is used; None while one is."""
        self.zero_copy = _use_zero_copy(self.device, zero_copy)
        """Whether the engine works in the host's memory."""
        self._owner = threading.current_thread()
        self._closed = False
        self._tensors: list[Tensor] = []
        self._lent: _EngineSlot | None = None
        self._bound = 0
        self._made = contextlib.ExitStack()
        """Frees what was made, in the opposite order."""
        self._context = PrimaryContext(self.device)
        try:
            with self._context, cuda_errors("opening the engine"):
                self._open(plan, batch)
        except BaseException:
            self.close()
            raise

    def _open(self, plan: bytes, batch: int | None) -> None:
        driver = load_cuda()
        # The thread sleeps until a result is there; spinning would take a whole core.
        flags = driver.event_flags.DISABLE_TIMING | driver.event_flags.BLOCKING_SYNC
        self._stream: Any = driver.Stream(_NON_BLOCKING)
        self._made.callback(self.__dict__.pop, "_stream")
        self._event: Any = driver.Event(flags)
        self._made.callback(self.__dict__.pop, "_event")
        self._engine = LoadedEngine(plan, batch)
        self._made.callback(self._engine.close)
        self.batch: int = self._engine.image_shape[0]
        """Frames that the engine takes at once."""
        self._outputs = {
            name: self._tensor(shape, np.float32)
            for name, shape in self._engine.output_shapes.items()
        }
        for name, tensor in self._outputs.items():
            self._engine.bind(name, tensor.address)
        self._staging = self._slot()

    def buffer(self, shape: tuple[int, int, int, int]) -> NDArray[np.uint8]:
        """Returns page-locked memory that `infer` takes without a copy in Python.

        Every call returns the same memory; `infer` of other arrays does not change it. A shape that
        the engine does not take at once gets ordinary memory. Drop it before `close`: while it is
        referenced, its memory and the CUDA context stay.
        """
        self._check()
        if shape[0] > self.batch or shape[1:] != self._engine.image_shape[1:]:
            return super().buffer(shape)
        if self._lent is None:
            with self._context, cuda_errors("allocating a buffer"):
                self._lent = self._slot()
        return self._lent.image.host[: shape[0]]

    def infer(self, batch: NDArray[np.uint8]) -> Outputs:
        """Runs the engine, as often as the batch needs; see `Backend.infer`.

        Raises:
            BackendError: The batch does not fit, another thread calls, or inference failed.
        """
        self._check()
        frame = self._engine.image_shape[1:]
        if batch.dtype != np.uint8 or batch.shape[1:] != frame:
            raise BackendError(
                f"the engine takes (N, {', '.join(map(str, frame))}) uint8; "
                f"received {batch.shape} {batch.dtype}"
            )
        results = {
            name: np.empty((len(batch), *tensor.host.shape[1:]), np.float32)
            for name, tensor in self._outputs.items()
        }
        with self._context, cuda_errors("inference"):
            for start in range(0, len(batch), self.batch):
                part = batch[start : start + self.batch]
                self._run(self._prepared(part), len(part))
                for name, result in results.items():
                    result[start : start + len(part)] = self._outputs[name].host[: len(part)]
        return Outputs(results[SCORE], results.get(HEATMAP), results.get(HEADS))

    def inspect(self) -> str:
        """Returns TensorRT's description of the engine's layers, as JSON."""
        self._check()
        with self._context:
            return self._engine.inspect()

    @property
    def device_memory(self) -> int:
        """Bytes of device memory that a run needs besides the weights and the tensors."""
        self._check()
        return self._engine.device_memory

    def close(self) -> None:
        """Frees everything, in order; a second call does nothing.

        Raises:
            BackendError: The calling thread is not the one that made it.
        """
        self._check_thread()
        if self._closed:
            return
        self._closed = True
        try:
            with self._context, cuda_errors("closing the engine"):
                self._made.close()
        except BackendError as error:  # after a fault of the device, which was reported
            log.warning("the engine was not closed cleanly: %s", error)
            self._made.close()
        if any(tensor.viewed for tensor in self._tensors):
            log.warning("a buffer is still in use: it and the CUDA context stay until the end")
            _in_use.append(self._context)
        else:
            self._context.close()

    def _check_thread(self) -> None:
        if threading.current_thread() is not self._owner:
            raise BackendError(
                f"this backend belongs to the thread {self._owner.name!r}, which made it; "
                f"{threading.current_thread().name!r} called it. A CUDA context is bound to its "
                "thread: make, use and close the backend in one, or one backend in each."
            )

    def _check(self) -> None:
        self._check_thread()
        if self._closed:
            raise BackendError("the backend is closed")

    def _tensor(self, shape: tuple[int, ...], dtype: type[np.generic]) -> Tensor:
        tensor = Tensor(shape, dtype, mapped=self.zero_copy)
        self._made.callback(tensor.free)
        self._tensors.append(tensor)
        return tensor

    def _slot(self) -> _EngineSlot:
        """Makes a slot, runs the engine on it once, and records its CUDA graph if that works."""
        slot = _EngineSlot(self._tensor(self._engine.image_shape, np.uint8))
        self._made.callback(slot.drop_graph)
        shape = slot.image.host.shape
        slot.image.host[...] = np.random.RandomState(7).randint(0, 256, shape, np.uint8)
        self._run(slot, self.batch)
        if self.graph_reason is None:
            try:
                self._record(slot)
            except BackendError as error:
                self._do_without_graph(slot, str(error))
        slot.image.host[...] = 0
        return slot

    def _record(self, slot: _EngineSlot) -> None:
        """Records the slot's graph, and compares its outputs with those of the engine."""
        expected = {name: tensor.host.copy() for name, tensor in self._outputs.items()}
        slot.graph = CudaGraph(self._stream.handle, lambda: self._enqueue(slot))
        for name, tensor in self._outputs.items():
            # Otherwise a graph that records nothing would leave the right result there.
            tensor.host[...] = np.nan_to_num(expected[name] + np.abs(expected[name]) + 1)
            tensor.upload(self._stream, self.batch)
        self._run(slot, self.batch)
        for name, tensor in self._outputs.items():
            if not np.allclose(tensor.host, expected[name], _RELATIVE, _ABSOLUTE, equal_nan=True):
                raise BackendError(f"the graph gives another {name} than the engine")

    def _do_without_graph(self, slot: _EngineSlot, reason: str) -> None:
        self.graph_reason = reason
        log.warning("no CUDA graph is used: %s", reason)
        slot.drop_graph()
        self._run(slot, self.batch)  # a refused recording must leave nothing behind

    def _prepared(self, part: NDArray[np.uint8]) -> _EngineSlot:
        """Returns the slot that holds these frames, copied unless they lie in the lent one."""
        if self._lent is not None and self._lent.image.holds(part):
            return self._lent
        self._staging.image.host[: len(part)] = part
        return self._staging

    def _run(self, slot: _EngineSlot, count: int) -> None:
        """Runs the engine on the slot's first `count` frames and waits for the outputs."""
        slot.image.upload(self._stream, count)
        if slot.graph is None:
            self._enqueue(slot)
        else:
            slot.graph.launch()
        for tensor in self._outputs.values():
            tensor.download(self._stream, count)
        self._event.record(self._stream)
        self._event.synchronize()

    def _enqueue(self, slot: _EngineSlot) -> None:
        if self._bound != slot.image.address:
            self._engine.bind(IMAGE, slot.image.address)
            self._bound = slot.image.address
        self._engine.enqueue(self._stream.handle)
