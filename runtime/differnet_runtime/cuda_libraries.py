"""What pip has installed for which CUDA version, to be compared with the driver's.

Within a major version any driver does (minor version compatibility), and a newer driver takes what
is older; a newer major version needs a newer driver:
https://docs.nvidia.com/deploy/cuda-compatibility/minor-version-compatibility.html
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import Distribution, distributions

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
