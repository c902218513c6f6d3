"""The results of a benchmark and the machine that gave them, as records and as tables."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import BackendUnavailableError
from ..files import numbers_in
from ..gpu import find_gpu
from ..text import table

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
    return numbers_in(Path("/proc/self/status"))["VmHWM"] / 1024


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


STAGES = ("capture", "preprocess", "integrity", "copy", "infer", "decide", "publish")
"""The stages of a frame's way. `copy` copies a prepared frame, which `differnet run` avoids by
preparing it in the backend's own memory."""


@dataclass(frozen=True)
class Samples:
    """Latencies of single runs.

    Args:
        ms: `(rounds, runs) float64` milliseconds.

    Example:
        >>> Samples(np.array([[1.0, 2.0], [1.0, 3.0]])).summary()["p50_ms"]
        2.0
    """

    ms: NDArray[np.float64]

    def summary(self) -> dict[str, float]:
        """Returns quantiles over all runs, and the range of the rounds' medians.

        A percentile is a measured run (rounded up), never a mean of two: the p99 of fifty runs is
        their maximum.
        """
        p50, p95, p99 = np.percentile(self.ms, (50, 95, 99), method="higher")
        medians = np.median(self.ms, axis=1)
        found = {
            "p50_ms": p50,
            "p95_ms": p95,
            "p99_ms": p99,
            "max_ms": self.ms.max(),
            "min_ms": self.ms.min(),
            "mean_ms": self.ms.mean(),
            "least_round_ms": medians.min(),
            "greatest_round_ms": medians.max(),
        }
        return {name: float(value) for name, value in found.items()}


@dataclass(frozen=True)
class Row:
    """The figures of one model, run in one way.

    Args:
        model: Name of the model file.
        precision: Precision of the file's graph.
        contender: The way it was run; see `measuring.CONTENDERS`.
        reason: Why there are no figures, or None.
        batches: Latencies of inference alone, by batch.
        stages: Latencies of a frame's way at batch 1, by stage.
        total: Latencies of the whole way, from the frame in memory to its publication.
        about: Facts: backend, file size, peak of the host's memory, CUDA graph, temperatures.
        failed: Why a part has no figures, by `batch 64` or `a frame's way`.
    """

    model: str
    precision: str
    contender: str
    reason: str | None = None
    batches: dict[int, Samples] = field(default_factory=dict)
    stages: dict[str, Samples] = field(default_factory=dict)
    total: Samples | None = None
    about: dict[str, Any] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    def record(self) -> dict[str, Any]:
        """Returns the row, ready for JSON."""
        return {
            "model": self.model,
            "precision": self.precision,
            "contender": self.contender,
            "reason": self.reason,
            "failed": self.failed,
            "inference": {
                str(batch): {
                    **samples.summary(),
                    "frames_per_s": batch * 1e3 / float(samples.ms.mean()),
                }
                for batch, samples in self.batches.items()
            },
            "stages": {name: samples.summary() for name, samples in self.stages.items()},
            "total": self.total.summary() if self.total else None,
            **self.about,
        }


_HEADER = (
    "model",
    "contender",
    "batch",
    "p50",
    "p95",
    "p99",
    "max",
    "rounds' medians",
    "frames/s",
)
_ABOUT = (
    "model",
    "contender",
    "CUDA graph",
    "temperatures before and after, C",
    "file, MB",
    "peak of the host's memory (not the GPU's), MiB",
)


def tables(rows: Sequence[Row]) -> str:
    """Returns the results as tables of milliseconds, for a terminal."""
    absent: dict[str, list[str]] = {}
    for row in rows:
        name = f"{row.model}, {row.contender}"
        failed = {name: row.reason} if row.reason else {}
        failed |= {f"{name}, {part}": reason for part, reason in row.failed.items()}
        for what, reason in failed.items():
            absent.setdefault(reason, []).append(what)
    lines = [f"\n  {'; '.join(names)}: {reason}" for reason, names in absent.items()]
    missing = "Not measured:" + "".join(lines) if lines else ""
    return "\n\n".join(filter(None, (_inference(rows), _stages(rows), _about(rows), missing)))


def _inference(rows: Sequence[Row]) -> str:
    lines = []
    for row in rows:
        for batch, samples in sorted(row.batches.items()):
            found = samples.summary()
            times = [f"{found[f'{name}_ms']:.2f}" for name in ("p50", "p95", "p99", "max")]
            around = f"{found['least_round_ms']:.2f} to {found['greatest_round_ms']:.2f}"
            rate = f"{batch * 1e3 / found['mean_ms']:.1f}"
            name = f"{row.model} ({row.precision})"
            lines.append((name, row.contender, str(batch), *times, around, rate))
    return "Inference, ms a batch\n" + _aligned(_HEADER, lines) if lines else ""


def _stages(rows: Sequence[Row]) -> str:
    lines = []
    for row in rows:
        if row.total is None:
            continue
        stages = [f"{row.stages[name].summary()['p50_ms']:.3f}" for name in STAGES]
        total = row.total.summary()
        ends = [f"{total['p50_ms']:.2f}", f"{total['p99_ms']:.2f}"]
        lines.append((row.model, row.contender, *stages, *ends))
    header = ("model", "contender", *STAGES, "total p50", "total p99")
    title = "A frame's way, p50 in ms; the total is without capture and copy\n"
    return title + _aligned(header, lines) if lines else ""


def _about(rows: Sequence[Row]) -> str:
    lines = [
        (
            row.model,
            row.contender,
            row.about["cuda_graph"] or "none",
            _warmth(row.about["temperatures_before"], row.about["temperatures_after"]),
            f"{row.about['file_mb']:.1f}",
            f"{row.about['peak_host_memory_mib']:.0f}",
        )
        for row in rows
        if not row.reason
    ]
    return "What was run\n" + _aligned(_ABOUT, lines, left=4) if lines else ""


def _warmth(before: dict[str, float] | None, after: dict[str, float] | None) -> str:
    """Returns the temperatures as `cpu-thermal 48.2 to 52.0, ...`."""
    before, after = before or {}, after or {}
    zones = [
        f"{name} " + " to ".join(f"{at[name]:.1f}" if name in at else "?" for at in (before, after))
        for name in {**before, **after}
    ]
    return ", ".join(zones) or "this machine tells none"


def _aligned(header: Sequence[str], lines: Iterable[Sequence[str]], left: int = 2) -> str:
    """Returns the table; its first `left` columns are aligned to the left."""
    return table([header, *lines], right=range(left, len(header)))
