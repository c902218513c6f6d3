"""A TensorRT engine, ready to run: what it takes and gives, and how it is enqueued.

Uses what TensorRT 8.6 to 11 have in common. Every failure of TensorRT here is a `BackendError`
that carries TensorRT's own last message.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from ..errors import BackendError
from ..tensorrt_api import load, make_logger
from .base import HEADS, HEATMAP, IMAGE, SCORE

_REBUILD = (
    "It was built with another version of TensorRT or for another GPU, or it is damaged: build "
    "it again on this device with `differnet engine`."
)


class Engine:
    """A plan, deserialised, with an execution context.

    The device's primary context must be current in every call.

    Args:
        plan: What `differnet engine` built. TensorRT trusts it, and a damaged one can crash the
            process: compare its hash before.
        batch: Frames that it is to take at once, within what it was built for; None takes as many
            as it can.

    Raises:
        BackendUnavailableError: TensorRT is not installed.
        BackendError: TensorRT can't read the plan, or it is no engine of a model of ours.
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
        """Sets where a tensor lies on the device.

        Raises:
            BackendError: TensorRT refuses the address.
        """
        with self._errors(f"binding {name}"):
            bound = self._context.set_tensor_address(name, address)
        if not bound:
            raise BackendError(f"TensorRT refuses the memory for {name}: {self._told()}")

    def enqueue(self, stream: int) -> None:
        """Puts one run into the stream with this handle, and does not wait for it.

        Raises:
            BackendError: TensorRT refuses; nothing was put into the stream.
        """
        with self._errors("running the engine"):
            enqueued = self._context.execute_async_v3(stream)
        if not enqueued:
            raise BackendError(f"TensorRT did not run the engine: {self._told()}")

    def inspect(self) -> str:
        """Returns TensorRT's description of the engine's layers, as JSON.

        Its detail is what the engine was built with (`ProfilingVerbosity`).
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
        self._context = None
        self._engine = None
        self._runtime = None

    def _describe(self, batch: int | None) -> tuple[tuple[int, ...], dict[str, tuple[int, ...]]]:
        """Reads the shapes, and fixes the batch: a CUDA graph holds for one shape."""
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
        """TensorRT's own last error message."""
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
