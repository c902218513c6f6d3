"""The CUDA device, by pycuda: what it is, its primary context, its memory.

The only module that imports pycuda, and the boundary of its errors. The context is always the
device's primary one, which is TensorRT's too: `pycuda.autoinit` and `make_context` would make a
second one, bound to its thread, in which TensorRT's handles are invalid.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType, TracebackType

from .driver import LIBRARY, find_gpu
from .errors import BackendError, BackendUnavailableError

_INSTALL = (
    "Install it with `pip install pycuda`; it is compiled on this machine, which needs CUDA's "
    "headers and a C++ compiler."
)


@dataclass(frozen=True)
class Device:
    """A CUDA device.

    Args:
        index: Its number among the visible devices.
        name: As NVIDIA calls it.
        compute_capability: `(8, 7)` for Orin.
        multiprocessors: Streaming multiprocessors.
        total_memory: Bytes; shared with the CPU where `integrated`.
        driver_version: The newest CUDA version that the driver takes: 12060 for 12.6.
        integrated: It shares the CPU's memory, as on a Jetson.
        can_map_host_memory: Kernels can read and write host memory in place.
    """

    index: int
    name: str
    compute_capability: tuple[int, int]
    multiprocessors: int
    total_memory: int
    driver_version: int
    integrated: bool
    can_map_host_memory: bool


@functools.cache
def load() -> ModuleType:
    """Imports and initialises `pycuda.driver`.

    The driver is asked first: without one, the cause would be hidden in pycuda's failed import,
    and TensorRT would hand out objects that crash the process.

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
    """Maps pycuda's errors to `BackendError`.

    Args:
        doing: What is being done, for the message.
    """
    driver = load()
    try:
        yield
    except driver.MemoryError as error:
        raise BackendError(
            f"{doing}: the GPU's memory is used up ({error}). End other programs that use the "
            "GPU, or build the engine for a smaller batch."
        ) from error
    except driver.Error as error:
        raise BackendError(f"{doing}: CUDA failed ({error})") from error


def open_device(index: int = 0) -> Device:
    """Describes a device.

    Args:
        index: Its number among the visible devices.

    Raises:
        BackendUnavailableError: No driver, no pycuda, or no such device.
    """
    driver = load()
    count = driver.Device.count()
    if not 0 <= index < count:
        raise BackendUnavailableError(f"there is no GPU number {index}; the driver finds {count}")
    device, attribute = driver.Device(index), driver.device_attribute
    return Device(
        index=index,
        name=device.name(),
        compute_capability=device.compute_capability(),
        multiprocessors=device.get_attribute(attribute.MULTIPROCESSOR_COUNT),
        total_memory=device.total_memory(),
        driver_version=driver.get_driver_version(),
        integrated=bool(device.get_attribute(attribute.INTEGRATED)),
        can_map_host_memory=bool(device.get_attribute(attribute.CAN_MAP_HOST_MEMORY)),
    )


def free_memory(index: int = 0) -> int:
    """Returns the device's free memory in bytes.

    Raises:
        BackendUnavailableError: No driver, no pycuda, or no such device.
        BackendError: The device fails.
    """
    context = PrimaryContext(open_device(index))
    try:
        with context, cuda_errors("reading the free memory"):
            return int(load().mem_get_info()[0])
    finally:
        context.close()


class PrimaryContext:
    """The device's primary context, retained until `close` and current only inside `with`.

    One thread makes it, uses it and closes it. What was current before is current again after.

    Args:
        device: From `open_device`.

    Raises:
        BackendError: It can't be made (the GPU's memory is used up).
    """

    def __init__(self, device: Device) -> None:
        with cuda_errors(f"starting {device.name}"):
            self._context = load().Device(device.index).retain_primary_context()
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
        except load().Error as failure:
            # After a fault of the device even this may fail. pycuda aborts the whole process when
            # its stack of contexts is not empty at the end, and detaching empties it.
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
