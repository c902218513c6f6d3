"""The machine measured: processor, GPU, power mode, cpu0's governor, temperatures, load."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ..errors import BackendUnavailableError
from ..gpu import find_gpu

_BUSY = 0.25
"""Share of the cores that other programs may use before a warning is due."""


def describe(root: Path = Path("/")) -> dict[str, Any]:
    """Returns what a latency depends on; None for what this machine does not tell.

    Args:
        root: The root of the file system.
    """
    return {
        "processor": _processor(root),
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
    """Returns degrees Celsius by the kernel's name for each zone; None where there is none."""
    found = {}
    for zone in sorted((root / "sys/class/thermal").glob("thermal_zone*")):
        kind, value = _read(zone / "type"), _read(zone / "temp")
        if kind and value and value.lstrip("-").isdecimal():
            found[kind] = int(value) / 1e3
    return found or None


def doubt(described: dict[str, Any]) -> str | None:
    """Returns why the figures may be too high, or None."""
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
    """Returns the most memory that this process ever had resident, in MiB.

    It is the kernel's figure for this process's memory (`VmHWM`): that of `getrusage` starts with
    what the parent had when it forked.
    """
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise AssertionError("Linux says VmHWM of every process")


def _processor(root: Path) -> str:
    for line in (_read(root / "proc/cpuinfo") or "").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _gpu() -> str | None:
    try:
        gpu = find_gpu()
    except BackendUnavailableError:
        return None
    return f"{gpu.name}, compute capability {'.'.join(map(str, gpu.compute_capability))}"


def _power_mode() -> str | None:
    """Returns what a Jetson's `nvpmodel` says; None elsewhere."""
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
    for line in done.stdout.splitlines():
        if line.startswith("NV Power Mode"):
            return line.partition(":")[2].strip()
    return None


def _read(path: Path) -> str | None:
    try:
        return path.read_text(errors="replace").strip("\0\n ") or None
    except OSError:
        return None
