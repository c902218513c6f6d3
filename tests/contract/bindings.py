"""NVIDIA's real bindings of several versions, loaded over a stub: their classes and signatures.

They are small wheels of the package index, which need TensorRT's libraries to be imported. The
stub has those libraries' names and entry points, and nothing in it.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.kept import installed, kept

HERE = Path(__file__).parent
SOURCE = HERE / "stub.c"
WHEELS = {
    "8.6.1": "tensorrt-bindings==8.6.1",
    "10.3.0": "tensorrt-cu12-bindings==10.3.0",
    "10.7.0": "tensorrt-cu12-bindings==10.7.0",
    "10.13.3": "tensorrt-cu12-bindings==10.13.3.9",
    "10.16.1": "tensorrt-cu12-bindings==10.16.1.11",
    "11.4.0": "tensorrt-cu12-bindings==11.4.0.106",
}
_LIBRARIES = ("nvinfer", "nvonnxparser", "nvinfer_plugin", "nvparsers")
_MAJORS = (8, 10, 11)

Api = dict[str, dict[str, list[str]]]
"""Class (the module is ``""``), attribute, its signatures."""


@dataclass(frozen=True)
class Bindings:
    """What one version shows.

    Args:
        api: Classes, attributes, signatures.
        ours: What `api` made of it.
    """

    api: Api
    ours: dict[str, Any]


@functools.cache
def bindings(version: str) -> Bindings:
    """Loads one version in a process of its own.

    Raises:
        LookupError: It can't be had here; says why.
    """
    if shutil.which("cc") is None:
        raise LookupError("a C compiler is missing (cc): install build-essential")
    packages = installed(WHEELS[version])
    environment = {
        **os.environ,
        "PYTHONPATH": str(packages),
        "LD_LIBRARY_PATH": str(_stub()),
    }
    run = subprocess.run(
        [sys.executable, str(HERE / "probe.py")],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return Bindings(**json.loads(run.stdout))


def _stub() -> Path:
    digest = hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:16]

    def compile_all(to: Path) -> None:
        for major in _MAJORS:
            for library in _LIBRARIES:
                name = f"lib{library}.so.{major}"
                output = ["-shared", "-fPIC", f"-Wl,-soname,{name}", "-o", str(to / name)]
                subprocess.run(["cc", *output, str(SOURCE)], check=True)

    return kept(f"nvstub-{digest}", compile_all)
