"""The CUDA device: its primary context, tensors in its memory, and CUDA graphs.

The only module that imports pycuda. The context is always the device's primary one, which TensorRT
uses, too: `pycuda.autoinit` and `make_context` would make a second one, bound to its thread, in
which TensorRT's handles are invalid.

CUDA graphs, in which one launch replaces a hundred, are used by ctypes, because pycuda does not
support them. See https://docs.nvidia.com/cuda/cuda-driver-api/ (Stream Management, Graph
Management); `cuGraphInstantiateWithFlags` came with CUDA 11.4.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import ModuleType, TracebackType
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ..errors import BackendError, BackendUnavailableError
from ..gpu import LIBRARY, error_text, find_gpu

_INSTALL = (
    "Install it with `pip install pycuda`; it is compiled on this machine, which needs CUDA's "
    "headers and a C++ compiler."
)


@dataclass(frozen=True)
class Device:
    """The first CUDA device.

    Args:
        name: NVIDIA's name of it.
        compute_capability: Such as `(8, 7)` for Orin.
        multiprocessors: Number of streaming multiprocessors.
        total_memory: Total memory in bytes; shared with the CPU if `integrated`.
        driver_version: The newest CUDA version that the driver supports: 12060 for 12.6.
        integrated: Whether it shares the CPU's memory, as on a Jetson.
        can_map_host_memory: Whether kernels can read and write host memory in place.
    """

    name: str
    compute_capability: tuple[int, int]
    multiprocessors: int
    total_memory: int
    driver_version: int
    integrated: bool
    can_map_host_memory: bool


@functools.cache
def load_cuda() -> ModuleType:
    """Imports and initialises `pycuda.driver`.

    The driver comes first: without one, the cause would be hidden in pycuda's failed import, and
    TensorRT would return objects that crash the process.

    Raises:
        BackendUnavailableError: No driver, no GPU, or no pycuda; says which and what to do.
    """
    find_gpu()
    try:
        import pycuda.driver as driver
    except ModuleNotFoundError as error:
        missing = (error.name or "pycuda").partition(".")[0]
        raise BackendUnavailableError(f"{missing} is not installed. {_INSTALL}") from error
    except ImportError as error:
        raise BackendUnavailableError(f"pycuda can't be loaded ({error}). {_INSTALL}") from error
    try:
        driver.init()
    except driver.Error as error:
        raise BackendUnavailableError(f"CUDA can't be started: {error}") from error
    return driver  # type: ignore[no-any-return]


@contextlib.contextmanager
def cuda_errors(doing: str) -> Iterator[None]:
    """Converts pycuda's errors to `BackendError`.

    Args:
        doing: What is being done, for the message.
    """
    driver = load_cuda()
    try:
        yield
    except driver.MemoryError as error:
        raise BackendError(
            f"{doing}: the GPU's memory is used up ({error}). End other programs that use the "
            "GPU, or build the engine for a smaller batch."
        ) from error
    except driver.Error as error:
        raise BackendError(f"{doing}: CUDA failed ({error})") from error


def open_device() -> Device:
    """Describes the first device.

    Raises:
        BackendUnavailableError: No driver, no GPU, or no pycuda.
    """
    driver = load_cuda()
    device, attribute = driver.Device(0), driver.device_attribute
    return Device(
        name=device.name(),
        compute_capability=device.compute_capability(),
        multiprocessors=device.get_attribute(attribute.MULTIPROCESSOR_COUNT),
        total_memory=device.total_memory(),
        driver_version=driver.get_driver_version(),
        integrated=bool(device.get_attribute(attribute.INTEGRATED)),
        can_map_host_memory=bool(device.get_attribute(attribute.CAN_MAP_HOST_MEMORY)),
    )


class PrimaryContext:
    """The device's primary context, retained until `close` and current only inside `with`.

    One thread makes it, uses it and closes it. The context that was current before is restored.

    Args:
        device: The result of `open_device`.

    Raises:
        BackendError: It can't be made (the GPU's memory is used up).
    """

    def __init__(self, device: Device) -> None:
        with cuda_errors(f"starting {device.name}"):
            self._context = load_cuda().Device(0).retain_primary_context()
        self._gone: str | None = None

    def __enter__(self) -> PrimaryContext:
        if self._gone is not None:
            raise BackendError(self._gone)
        with cuda_errors("making the CUDA context current"):
            self._context.push()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self._context.pop()
        except load_cuda().Error as failure:
            # After a fault of the device even this may fail. pycuda aborts the process at its end
            # if its stack of contexts is not empty, and detaching empties it.
            self._gone = f"the CUDA context is lost ({failure}). Restart the program."
            self._context.detach()
            raise BackendError(self._gone) from (error or failure)

    def close(self) -> None:
        """Releases the context; a second call does nothing."""
        if self._gone is not None:
            return
        self._gone = "the CUDA context is closed"
        before = _current()
        self._context.detach()
        if _current() != before:  # detaching makes a primary context current, and leaves it so
            ctypes.CDLL(LIBRARY).cuCtxSetCurrent(None)


def _current() -> int | None:
    context = ctypes.c_void_p()
    ctypes.CDLL(LIBRARY).cuCtxGetCurrent(ctypes.byref(context))
    return context.value


class Tensor:
    """A tensor in page-locked host memory, and its address on the device.

    Mapped memory has an address of its own on the device and is never copied, which suits devices
    where CPU and GPU share their memory. Elsewhere there is device memory, too, and `upload` and
    `download` copy between the two, in the stream's order and without waiting.

    Args:
        shape: Shape, with the engine's batch first.
        dtype: Type of the elements.
        mapped: Whether to use the host's memory in place.

    Raises:
        BackendError: There is not enough memory.
    """

    def __init__(self, shape: tuple[int, ...], dtype: DTypeLike, *, mapped: bool) -> None:
        driver = load_cuda()
        flags = driver.host_alloc_flags.DEVICEMAP if mapped else 0
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        self._device: Any = None
        with cuda_errors(f"allocating {size / 1e6:.1f} MB for a tensor"):
            if not mapped:
                self._device = driver.mem_alloc(size)
            try:
                self.host: NDArray[Any] = driver.pagelocked_empty(shape, dtype, mem_flags=flags)
            except driver.Error:
                self._free_device()
                raise
        allocation: Any = self.host.base
        self.address = int(allocation.get_device_pointer() if mapped else self._device)
        """Address on the device, for the engine."""
        self._allocation = weakref.ref(allocation)

    def upload(self, stream: object, count: int) -> None:
        """Enqueues a copy of the first `count` items to the device."""
        if self._device is not None:
            load_cuda().memcpy_htod_async(self._device, self.host[:count], stream)

    def download(self, stream: object, count: int) -> None:
        """Enqueues a copy of the first `count` items from the device."""
        if self._device is not None:
            load_cuda().memcpy_dtoh_async(self.host[:count], self._device, stream)

    def holds(self, array: NDArray[Any]) -> bool:
        """Whether `array` is the host memory itself, from its start on."""
        return array.flags.c_contiguous and array.ctypes.data == self.host.ctypes.data

    def free(self) -> None:
        """Frees the memory; the host's stays as long as views of it exist."""
        self._free_device()
        del self.host

    @property
    def viewed(self) -> bool:
        """Whether views of the host memory exist after `free`."""
        return self._allocation() is not None

    def _free_device(self) -> None:
        if self._device is not None:
            self._device.free()
            self._device = None


# Other threads may go on calling CUDA (a camera, say) while this one captures.
_THREAD_LOCAL = 1

_SIGNATURES = {
    "cuStreamBeginCapture_v2": (ctypes.c_void_p, ctypes.c_int),
    "cuStreamEndCapture": (ctypes.c_void_p, ctypes.c_void_p),
    "cuGraphInstantiateWithFlags": (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_ulonglong),
    "cuGraphLaunch": (ctypes.c_void_p, ctypes.c_void_p),
    "cuGraphDestroy": (ctypes.c_void_p,),
    "cuGraphExecDestroy": (ctypes.c_void_p,),
}


class CudaGraph:
    """The work that `enqueue` puts into a stream, recorded once and launched as one.

    The context must be current, and `enqueue` must have run once before, because the allocations
    of a first run can't be recorded.

    Args:
        stream: Handle of the stream.
        enqueue: Puts work into the stream; must not wait.

    Raises:
        BackendError: The driver or `enqueue` refuses; the stream can be used as before.
    """

    def __init__(self, stream: int, enqueue: Callable[[], None]) -> None:
        self._stream = stream
        self._launchable = ctypes.c_void_p()
        graph = ctypes.c_void_p()
        _call("cuStreamBeginCapture_v2", stream, _THREAD_LOCAL)
        try:
            try:
                enqueue()
            finally:  # a stream that is left capturing accepts no work
                ended = _result("cuStreamEndCapture", stream, ctypes.byref(graph))
            _check("cuStreamEndCapture", ended)
            _call("cuGraphInstantiateWithFlags", ctypes.byref(self._launchable), graph, 0)
        finally:
            if graph:
                _result("cuGraphDestroy", graph)

    def launch(self) -> None:
        """Enqueues the recorded work.

        Raises:
            BackendError: The driver refuses.
        """
        _call("cuGraphLaunch", self._launchable, self._stream)

    def close(self) -> None:
        """Destroys the graph; a second call does nothing."""
        if self._launchable:
            _result("cuGraphExecDestroy", self._launchable)
            self._launchable = ctypes.c_void_p()


@functools.cache
def _library() -> ctypes.CDLL:
    library = ctypes.CDLL(LIBRARY)
    for name, arguments in _SIGNATURES.items():
        function = getattr(library, name, None)
        if function is None:
            raise BackendError(f"this driver has no {name}: it is older than CUDA 11.4")
        function.argtypes = arguments
    return library


def _result(name: str, *arguments: object) -> int:
    return int(getattr(_library(), name)(*arguments))


def _call(name: str, *arguments: object) -> None:
    _check(name, _result(name, *arguments))


def _check(name: str, code: int) -> None:
    if code:
        raise BackendError(f"{name} failed: {error_text(_library(), code)} (error {code})")
