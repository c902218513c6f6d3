"""Compiles C++ against TensorRT's headers or the small ones here, and links it with the stand-in.

DIFFERNET_TENSORRT_INCLUDE names the folder of NVIDIA's NvInfer.h; else it is looked for where
NVIDIA's packages put it.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.fakes.cuda import build as cuda
from tests.servers import require

HERE = Path(__file__).parent
FLAGS = ("-std=c++17", "-Wall", "-Wextra", "-Werror", "-Wno-deprecated-declarations")
INCLUDE = "DIFFERNET_TENSORRT_INCLUDE"
_PLACES = (
    *(f"/usr/include/{machine}-linux-gnu" for machine in ("aarch64", "x86_64")),
    "/usr/include",
    "/usr/local/tensorrt/include",
)


def require_compiler() -> None:
    """Skips the test where there is no C++ compiler, or no header of CUDA's."""
    require("g++")
    if reason := cuda.missing():
        pytest.skip(reason)


def real_headers() -> Path:
    """Returns the folder of NVIDIA's headers; skips the test where there are none."""
    named = os.environ.get(INCLUDE)
    for place in map(Path, [named] if named else _PLACES):
        if (place / "NvInfer.h").is_file():
            return place
    pytest.skip(f"NVIDIA's NvInfer.h is not here; {INCLUDE} names its folder")


def check(source: Path, headers: Path = HERE) -> None:
    """Compiles a source without output; any warning fails."""
    _compile(headers, "-fsyntax-only", source)


def link(source: Path, program: Path) -> None:
    """Makes a program over the stand-in and the driver in host memory."""
    driver = cuda.driver()
    libraries = ["-L", driver, "-lcuda", f"-Wl,-rpath,{driver}"]
    _compile(HERE, source, HERE / "standin.cpp", "-o", program, *libraries)


def _compile(headers: Path, *arguments: object) -> None:
    places = ["-I" if headers == HERE else "-isystem", headers, "-isystem", cuda.cuda_headers()]
    command = ["g++", *FLAGS, *map(str, (*places, *arguments))]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
