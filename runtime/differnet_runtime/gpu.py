"""The NVIDIA GPU of this machine, as its driver and its kernel see it, and the packages for CUDA.

`find_gpu` asks the driver by ctypes: it takes milliseconds and needs no package, so it comes before
anything heavy is imported. A missing driver, or device nodes that a service may not open, hide the
GPU from it; `nvidia_gpu` asks the kernel instead.

Packages for CUDA work with any driver of the same major version (minor version compatibility) and
with newer ones; a newer major version needs a newer driver:
https://docs.nvidia.com/deploy/cuda-compatibility/minor-version-compatibility.html
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import re
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import Distribution, distributions
from pathlib import Path

from .errors import BackendUnavailableError
from .sentences import sentence

LIBRARY = "libcuda.so.1"
"""The driver's library, which comes only with the driver."""

_DEFAULT_CUDA = (13, 0)
"""CUDA version that the extras `tensorrt` and `onnx-gpu` are built for."""

_COMPUTE_CAPABILITY = (75, 76)
"""Device attributes of the major and minor compute capability, from cuda.h."""


@dataclass(frozen=True)
class Gpu:
    """The first GPU.

    Args:
        name: NVIDIA's name of it.
        compute_capability: Such as `(8, 7)` for Orin.
        memory_bytes: Total memory in bytes; shared with the CPU on a Jetson.
        cuda: The newest CUDA version that the driver supports.
    """

    name: str
    compute_capability: tuple[int, int]
    memory_bytes: int
    cuda: tuple[int, int]


def find_gpu() -> Gpu:
    """Returns the first GPU that the driver finds.

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
    """Returns the extra that fits this driver: `NAME-cu12` if it does not support CUDA 13.

    Args:
        extra: Name of the extra, `tensorrt` or `onnx-gpu`.
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
    if code := getattr(library, function)(*arguments):
        reason = error_text(library, code)
        raise BackendUnavailableError(
            sentence("driver_silent", function=function, why=reason, number=code)
        )


def error_text(library: ctypes.CDLL, code: int) -> str:
    """Returns the driver's description of an error code."""
    text = ctypes.c_char_p()
    library.cuGetErrorString(code, ctypes.byref(text))
    return (text.value or b"unknown error").decode(errors="replace")


_VENDOR = "0x10de"
_DISPLAYS = ("0x0300", "0x0302")
"""PCI classes of graphics cards with a display (VGA) and without (3D)."""
_TEGRA = b"nvidia,tegra"


@functools.cache
def nvidia_gpu(root: Path = Path("/")) -> str | None:
    """Describes the NVIDIA GPU that the kernel sees; returns None without one.

    Args:
        root: The root of the file system.
    """
    with contextlib.suppress(OSError):  # no Jetson
        names = (root / "proc/device-tree/compatible").read_bytes().split(b"\0")
        # The last one is the chip: `tegra234` of an Orin.
        for name in reversed([one for one in names if one.startswith(_TEGRA)]):
            return f"the GPU of a Jetson ({name.partition(b',')[2].decode()})"
    for device in sorted((root / "sys/bus/pci/devices").glob("*")):
        with contextlib.suppress(OSError):
            vendor = (device / "vendor").read_text().strip()
            kind = (device / "class").read_text().strip()
            if vendor == _VENDOR and kind.startswith(_DISPLAYS):
                return f"an NVIDIA card at PCI {device.name}"
    return None


_NAMED = re.compile(r"(tensorrt)-cu(\d+)$|(nvidia)-(?:cuda-runtime|cudnn)-cu(\d+)$")
_CUDA_13_RUNTIME = "nvidia-cuda-runtime"
_ORT = "onnxruntime-gpu"
_ORT_CUDA_13_SINCE = (1, 27)


@dataclass(frozen=True)
class Library:
    """A package that is built for a CUDA version.

    Args:
        name: Name of the package.
        version: Version of the package.
        cuda: Major version of CUDA.
        cu12: The extra that installs its counterpart for CUDA 12.
    """

    name: str
    version: str
    cuda: int
    cu12: str


def installed(packages: Iterable[Distribution] | None = None) -> list[Library]:
    """Returns the installed packages for CUDA, sorted by name.

    Args:
        packages: The packages to search; None for all that are installed.
    """
    found = map(_library, distributions() if packages is None else packages)
    by_name = {one.name: one for one in found if one is not None}
    return [by_name[name] for name in sorted(by_name)]


def too_new(libraries: Iterable[Library], driver: tuple[int, int]) -> list[Library]:
    """Returns the packages that are too new for a driver.

    Args:
        libraries: The result of `installed`.
        driver: The newest CUDA version that the driver supports.
    """
    return [one for one in libraries if one.cuda > driver[0]]


def _library(package: Distribution) -> Library | None:
    name, version = re.sub(r"[-_.]+", "-", package.metadata["Name"] or "").lower(), package.version
    if name == _ORT:
        numbers = tuple(map(int, re.findall(r"\d+", version)[:2]))
        return Library(name, version, 13 if numbers >= _ORT_CUDA_13_SINCE else 12, "onnx-gpu-cu12")
    if name == _CUDA_13_RUNTIME:
        return Library(name, version, int(version.split(".")[0]), "onnx-gpu-cu12")
    named = _NAMED.match(name)
    if named is None:
        return None
    cuda = int(named[2] or named[4])
    return Library(name, version, cuda, "tensorrt-cu12" if named[1] else "onnx-gpu-cu12")
