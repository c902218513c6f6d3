"""How long it takes to begin: importing the package, and from `differnet run` to the first verdict.

    python -m benchmarks.startup        (about a minute on a quiet machine)

Every figure is of fresh processes, in turn. Wall time is what a person waits; processor time
depends less on what else the machine does.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from differnet_runtime.benchmark.measuring import draw
from differnet_runtime.images import write_image

from . import machine
from .default_model import default_model

_RUN = "import sys; from differnet_runtime.cli import main; sys.exit(main(sys.argv[1:]))"


def once(command: Sequence[str]) -> dict[str, float]:
    """Runs a command; returns wall time to its first line and to its end, and processor time."""
    start = time.perf_counter()
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        first_s = time.perf_counter() - start
        process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0 or not first:
        raise RuntimeError(f"{command} ended with {process.returncode}")
    end_s = time.perf_counter() - start
    return {
        "first_s": first_s,
        "end_s": end_s,
        "cpu_s": usage.ru_utime + usage.ru_stime,
    }


def commands(folder: Path) -> dict[str, list[str]]:
    """Returns what is timed."""
    picture = folder / "part.png"
    write_image(picture, draw(1280, 720))
    python = [sys.executable, "-c"]
    run = [*python, _RUN, "run", "--model", str(default_model()), "--source", str(picture)]
    run += ["--json", "--any-size"]  # the models of the benchmarks know smaller pictures
    return {
        "python alone": [*python, "print(1)"],
        "import differnet_runtime": [*python, "import differnet_runtime; print(1)"],
        "import its Detector": [*python, "from differnet_runtime import Detector; print(1)"],
        "differnet --version": [*python, _RUN, "--version"],
        "differnet run, onnxruntime-cpu": [*run, "--backend", "onnxruntime-cpu"],
        "differnet run, auto": run,
    }


def main() -> None:
    """Measures and writes results/startup.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--no-write", action="store_true", help="print only")
    args = parser.parse_args()
    found: dict[str, list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as name:
        timed = commands(Path(name))
        for run in range(args.runs + 1):
            for what, command in timed.items():
                times = once(command)
                if run:  # the first one reads the files from the disk
                    found.setdefault(what, []).append(times)
    rows = {what: _summary(runs) for what, runs in found.items()}
    for what, row in rows.items():
        print(what, row, flush=True)
    if not args.no_write:
        machine.write("startup", {"runs": args.runs, "rows": rows})


def _summary(runs: list[dict[str, float]]) -> dict[str, Any]:
    return {
        name: {
            "median": statistics.median(run[name] for run in runs),
            "min": min(run[name] for run in runs),
            "max": max(run[name] for run in runs),
        }
        for name in runs[0]
    }


if __name__ == "__main__":
    main()
