"""Takes mutants of a model file as a station does: `python -m tests.faults.mutant_caller FOLDER`.

Adds each `NUMBER.onnx` of the folder to a store and loads it; prints a JSON line for each. Its own
death is what a mutant must not bring about.
"""

from __future__ import annotations

import json
import re
import resource
import sys
import time
from functools import partial
from pathlib import Path

from differnet_runtime.errors import DifferNetError
from differnet_runtime.inference.process import check_model
from differnet_runtime.models.store import ModelStore


def main() -> None:
    """Goes through the folder."""
    folder = Path(sys.argv[1])
    check = partial(check_model, backend="onnxruntime-cpu", threads=1)
    for path in sorted(folder.glob("*.onnx")):
        store = ModelStore(folder / "store" / path.stem, check)
        begun, refused, step = time.perf_counter(), None, "add"
        try:
            added = store.add(path, "mutant")
            step = "load"
            store.activate(added.hash)
        except DifferNetError as error:
            refused = str(error)
        taken_s = time.perf_counter() - begun
        children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
        peaks = [peak_bytes(), children]
        outcome = {"file": path.name, "step": step, "refused": refused}
        told = {**outcome, "s": round(taken_s, 3), "peak_bytes": peaks}
        sys.stdout.write(json.dumps(told) + "\n")
        sys.stdout.flush()


def peak_bytes() -> int:
    """Returns the most memory that this process has held; getrusage counts its parent's, too."""
    found = re.search(r"^VmHWM:\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024


if __name__ == "__main__":
    main()
