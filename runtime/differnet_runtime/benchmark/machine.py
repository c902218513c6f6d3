"""Describes the machine of a benchmark: processor, GPU, power mode, temperatures, load."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ..errors import BackendUnavailableError
from ..gpu import find_gpu

_BUSY = 0.25
"""Share of the cores that other programs may use without a warning."""


def describe(root: Path = Path("/")) -> dict[str, Any]:
    """Returns what a latency depends on; None for what this machine does not reveal.

    Args:
        root: The root of the file system.
    """
    return {
        "processor": processor(root),
        "cores": len(os.sched_getaffinity(0)),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "differnet-edge": version("differnet-edge"),
        "board": _read(root / "proc/device-tree/model"),
        "gpu": _gpu(),
        "power_mode": _power_mode(),
        "governor": _read(root / "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "load": os.getloadavg()[0],
    }


def temperatures(root: Path = Path("/")) -> dict[str, float] | None:
    """Returns degrees Celsius by the kernel's name of each thermal zone; None without zones."""
    found = {}
    for zone in sorted((root / "sys/class/thermal").glob("thermal_zone*")):
        kind, value = _read(zone / "type"), _read(zone / "temp")
        if kind and value and value.lstrip("-").isdecimal():
            found[kind] = int(value) / 1e3
    return found or None


def doubt(described: dict[str, Any]) -> str | None:
    """Returns why the latencies may be too high, or None."""
    load, cores = described["load"], described["cores"]
    if load > _BUSY * cores:
        return (
            f"the load was {load:.1f} on {cores} cores before this began: other programs were "
            "running, and the figures may be too high"
        )
    if described["governor"] not in (None, "performance"):
        return f"the clock follows the load (governor {described['governor']!r})"
    return None


def peak_memory_mib() -> float:
    """Returns the peak of this process's resident memory, in MiB.

    It is the kernel's `VmHWM`; the figure of `getrusage` starts with the memory of the parent at
    the time of the fork.
    """
    peak = _field(Path("/proc/self/status").read_text(), "VmHWM")
    assert peak is not None, "Linux lists it for every process"
    return int(peak.split()[0]) / 1024


def processor(root: Path = Path("/")) -> str:
    """Returns the processor's name; Python knows it on few systems."""
    found = _field(_read(root / "proc/cpuinfo") or "", "model name")
    return found or platform.processor() or platform.machine()


def _gpu() -> str | None:
    try:
        gpu = find_gpu()
    except BackendUnavailableError:
        return None
    return f"{gpu.name}, compute capability {'.'.join(map(str, gpu.compute_capability))}"


def _power_mode() -> str | None:
    """Returns a Jetson's power mode, as `nvpmodel` prints it; None elsewhere."""
    try:
        done = subprocess.run(
            ["nvpmodel", "-q"],  # noqa: S607 - wherever JetPack has put it
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return _field(done.stdout, "NV Power Mode")


def _field(text: str, name: str) -> str | None:
    """Returns the value of the first line `NAME: value`, or None."""
    found = re.search(rf"^{name}\s*:\s*(.*)$", text, re.MULTILINE)
    return found[1].strip() if found else None


def _read(path: Path) -> str | None:
    try:
        return path.read_text(errors="replace").strip("\0\n ") or None
    except OSError:
        return None
