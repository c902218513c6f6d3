"""What every result names: the machine, the versions, the commit."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

import onnxruntime

RESULTS = Path(__file__).parent / "results"
PACKAGES = (
    "torch",
    "torchvision",
    "timm",
    "numpy",
    "scikit-learn",
    "opencv-python-headless",
    "Pillow",
)


def describe() -> dict[str, Any]:
    """Returns processor, cores, versions, load (of the last minute, in processes), commit, time."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": platform.system(),
        "python": platform.python_version(),
        "versions": {
            **{name: version(name) for name in PACKAGES},
            "onnxruntime": onnxruntime.__version__,  # of either package
        },
        "load": round(os.getloadavg()[0], 2),
        **stamp(),
    }


def stamp() -> dict[str, str]:
    """Returns the commit, `-dirty` where the code differs from it, and the time.

    Results and pages don't count: one benchmark writes its result before the next one starts.
    """
    changed = _git("status", "--porcelain", "--", ":/*.py")
    return {
        "commit": _git("describe", "--always") + ("-dirty" if changed else ""),
        "measured": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def _git(*command: str) -> str:
    run = ["git", "-C", str(Path(__file__).parent), *command]
    return subprocess.run(run, capture_output=True, text=True, check=False).stdout.strip()


def write(name: str, result: dict[str, Any]) -> Path:
    """Writes `results/NAME.json` with the machine's description."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps({"machine": describe(), **result}, indent=1) + "\n")
    print(f"wrote {path}")
    return path


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()
