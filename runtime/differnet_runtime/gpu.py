"""NVIDIA's driver, asked by ctypes: is there a GPU at all, and which one.

It takes milliseconds and needs no package, so it is asked before anything heavy is imported.

Whether this machine has an NVIDIA GPU, driver or not: by what the kernel tells of its hardware.

A driver that is missing, or nodes that a service may not open, hide a GPU from `driver.find_gpu`.

What pip has installed for which CUDA version, to be compared with the driver's.

Within a major version any driver does (minor version compatibility), and a newer driver takes what
is older; a newer major version needs a newer driver:
https://docs.nvidia.com/deploy/cuda-compatibility/minor-version-compatibility.html
"""

from __future__ import annotations

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


_VENDOR = "0x10de"
_DISPLAYS = ("0x0300", "0x0302")
"""PCI classes of graphics cards, with a screen (VGA) or without (3D)."""
_TEGRA = b"nvidia,tegra"


@functools.cache
def nvidia_gpu(root: Path = Path("/")) -> str | None:
    """Returns what there is, in words; None without an NVIDIA GPU.

    Args:
        root: The root of the file system.
    """
    chip = _tegra(root)
    if chip is not None:
        return f"the GPU of a Jetson ({chip})"
    card = _card(root)
    return None if card is None else f"an NVIDIA card at PCI {card}"


def _tegra(root: Path) -> str | None:
    """Returns the chip, `tegra234` of an Orin, that the device tree names."""
    try:
        names = (root / "proc/device-tree/compatible").read_bytes().split(b"\0")
    except OSError:
        return None
    chips = [name.partition(b",")[2].decode() for name in names if name.startswith(_TEGRA)]
    return chips[-1] if chips else None


def _card(root: Path) -> str | None:
    for device in sorted((root / "sys/bus/pci/devices").glob("*")):
        try:
            vendor = (device / "vendor").read_text().strip()
            kind = (device / "class").read_text().strip()
        except OSError:
            continue
        if vendor == _VENDOR and kind.startswith(_DISPLAYS):
            return device.name
    return None


_NAMED = re.compile(r"(tensorrt)-cu(\d+)$|(nvidia)-(?:cuda-runtime|cudnn)-cu(\d+)$")
_CUDA_13_RUNTIME = "nvidia-cuda-runtime"
_ORT = "onnxruntime-gpu"
_ORT_CUDA_13_SINCE = (1, 27)


@dataclass(frozen=True)
class Library:
    """A package that is built for a CUDA version.

    Args:
        name: Of the package.
        version: Its own.
        cuda: CUDA's major version.
        cu12: The extra that brings what CUDA 12 needs in its place.
    """

    name: str
    version: str
    cuda: int
    cu12: str


def installed(packages: Iterable[Distribution] | None = None) -> list[Library]:
    """Returns the packages for CUDA that are installed, by name.

    Args:
        packages: Where to look; None looks at all that are installed.
    """
    found = (_library(one) for one in (distributions() if packages is None else packages))
    by_name = {one.name: one for one in found if one is not None}
    return [by_name[name] for name in sorted(by_name)]


def too_new(libraries: Iterable[Library], driver: tuple[int, int]) -> list[Library]:
    """Returns those that a driver does not take.

    Args:
        libraries: From `installed`.
        driver: The newest CUDA version that it takes.
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
