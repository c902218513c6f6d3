"""NVIDIA's driver, asked by ctypes: is there a GPU at all, and which one.

It takes milliseconds and needs no package, so it is asked before anything heavy is imported.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

from .errors import BackendUnavailableError
from .sentences import sentence

LIBRARY = "libcuda.so.1"
"""The driver's own library; it comes with the driver and with nothing else."""

_DEFAULT_CUDA = (13, 0)
"""What the extras `tensorrt` and `onnx-gpu` are built for."""

_COMPUTE_CAPABILITY = (75, 76)
"""Numbers of the device attributes for its major and minor part, from cuda.h."""


@dataclass(frozen=True)
class Gpu:
    """The first GPU.

    Args:
        name: As NVIDIA calls it.
        compute_capability: `(8, 7)` for Orin.
        memory_bytes: All of it; shared with the CPU on a Jetson.
        cuda: The newest CUDA version that the driver takes.
    """

    name: str
    compute_capability: tuple[int, int]
    memory_bytes: int
    cuda: tuple[int, int]


def find_gpu() -> Gpu:
    """Asks the driver for its first GPU.

    Raises:
        BackendUnavailableError: There is no driver, or it finds no GPU; says which and why.
    """
    try:
        library = ctypes.CDLL(LIBRARY)
    except OSError as error:
        raise BackendUnavailableError(sentence("no_driver", why=error)) from error
    _call(library, "cuInit", 0)
    count, version, device = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    _call(library, "cuDeviceGetCount", ctypes.byref(count))
    if count.value == 0:
        raise BackendUnavailableError(sentence("no_gpu"))
    _call(library, "cuDriverGetVersion", ctypes.byref(version))
    _call(library, "cuDeviceGet", ctypes.byref(device), 0)
    name, memory = ctypes.create_string_buffer(256), ctypes.c_size_t()
    _call(library, "cuDeviceGetName", name, len(name), device)
    _call(library, "cuDeviceTotalMem_v2", ctypes.byref(memory), device)
    major, minor = (_attribute(library, number, device) for number in _COMPUTE_CAPABILITY)
    cuda = (version.value // 1000, version.value % 1000 // 10)
    return Gpu(name.value.decode(errors="replace"), (major, minor), memory.value, cuda)


def extra_for_driver(extra: str) -> str:
    """Returns the extra that fits this driver: `NAME-cu12` where it takes no CUDA 13.

    Args:
        extra: `tensorrt` or `onnx-gpu`.
    """
    try:
        newest = find_gpu().cuda
    except BackendUnavailableError:
        return extra
    return extra if newest >= _DEFAULT_CUDA else f"{extra}-cu12"


def _attribute(library: ctypes.CDLL, number: int, device: ctypes.c_int) -> int:
    value = ctypes.c_int()
    _call(library, "cuDeviceGetAttribute", ctypes.byref(value), number, device)
    return value.value


def _call(library: ctypes.CDLL, function: str, *arguments: object) -> None:
    code = getattr(library, function)(*arguments)
    if code:
        text = ctypes.c_char_p()
        library.cuGetErrorString(code, ctypes.byref(text))
        reason = (text.value or b"unknown error").decode(errors="replace")
        raise BackendUnavailableError(
            sentence("driver_silent", function=function, why=reason, number=code)
        )
