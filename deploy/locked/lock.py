"""Writes the files beside it: every package that a device installs, at one version, with hashes.

    make lock

needs uv and a package index, and takes the newest versions that `pyproject.toml` admits. A file
serves Python 3.10 to 3.12 on x86-64 and aarch64: where versions differ, markers tell.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
PROJECT = HERE.parents[1] / "pyproject.toml"
STATION = "opencv-headless,service"
SETS = {
    "cpu": (f"onnx-cpu,{STATION}", ""),
    "gpu": (f"onnx-gpu,{STATION}", ""),
    "gpu-cu12": (f"onnx-gpu-cu12,{STATION}", ""),
    "jetson": ("onnx-cpu,service", "numpy<2 pycuda>=2024.1"),
    "build": ("", "hatchling>=1.25"),
}
"""Of each file: extras, and what is wanted besides."""
UV = (
    *(sys.executable, "-m", "uv", "pip", "compile", "--universal", "--python-version", "3.10"),
    *("--generate-hashes", "--no-header", "--no-annotate", "--quiet"),
)


def main() -> int:
    """Writes every file; returns uv's exit code where it fails."""
    for name, (extras, besides) in SETS.items():
        source = [str(PROJECT), *(f"--extra={extra}" for extra in extras.split(","))]
        done = subprocess.run(  # noqa: S603 - uv, with arguments of this file
            [*UV, *(source if extras else ()), "-"],
            input=besides.replace(" ", "\n"),
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            return done.returncode
        head = f"# Made by `make lock` for: {' '.join(filter(None, (extras, besides)))}\n"
        (HERE / f"{name}.txt").write_text(head + done.stdout, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
