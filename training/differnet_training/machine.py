"""What a measured time belongs to: the machine and the versions that ran the frames."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_PACKAGES = (
    "differnet-edge",
    "numpy",
    "onnxruntime",
    "onnxruntime-gpu",
    "opencv-python",
    "opencv-python-headless",
    "tensorrt",
)
_CPUINFO = Path("/proc/cpuinfo")


def describe_machine() -> dict[str, str]:
    """Returns processor, cores, system and the versions of what scores frames, by name."""
    return {
        "processor": _processor(_CPUINFO),
        "cores": str(os.cpu_count()),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        **{name: found for name in _PACKAGES if (found := _version(name)) is not None},
    }


def _processor(cpuinfo: Path) -> str:
    """Returns the processor's name; Python knows it on few systems."""
    try:
        lines = cpuinfo.read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
