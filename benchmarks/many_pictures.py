"""Training on 10,000 pictures within 2 GiB of memory, and on 300 within two minutes.

    python -m benchmarks.many_pictures 300
    python -m benchmarks.many_pictures 10000     about an hour; needs root and control groups

The pictures are 300 x 300: good ELPV cells, each shifted, brightened and given noise by a seed, so
that no two are alike. Training runs in a process of its own, in a control group whose memory
(page cache included) is limited to 2 GiB and whose swap to nothing: beyond it the process would be
killed.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from differnet_runtime.images import read_image, write_image
from differnet_training.datasets.elpv import elpv_pictures

from . import machine

LIMIT_GIB = 2
_GROUP = Path("/sys/fs/cgroup/differnet-benchmark")


def write_pictures(folder: Path, count: int) -> None:
    """Writes pictures by a seed."""
    sources = [read_image(picture.path) for picture in elpv_pictures("both")[0]]
    for number in range(count):
        random = np.random.RandomState(number)
        cell = np.roll(sources[number % len(sources)], random.randint(-3, 4, 2), (0, 1))
        grey = cell * random.uniform(0.95, 1.05) + random.normal(0, 2, cell.shape)
        write_image(folder / f"{number:05d}.png", np.clip(grey, 0, 255).astype(np.uint8))


def _limited() -> None:
    (_GROUP / "cgroup.procs").write_text(str(os.getpid()))


def train(folder: Path, root: Path, *, limited: bool) -> dict[str, float]:
    """Trains the default recipe with an empty cache; returns seconds and peak memory."""
    command = [sys.executable, "-m", "differnet_runtime.cli", "train", "--data", str(folder)]
    command += ["-o", str(root / "model"), "--cache", str(root / "cache")]
    if limited:
        _GROUP.mkdir(exist_ok=True)
        (_GROUP / "memory.max").write_text(str(LIMIT_GIB * 2**30))
        swap = _GROUP / "memory.swap.max"
        if swap.exists():
            swap.write_text("0")
    start = time.perf_counter()
    subprocess.run(command, check=True, preexec_fn=_limited if limited else None)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    return {"training_s": seconds, "peak_resident_gib": peak}


def main() -> None:
    """Measures and writes results/many_pictures_COUNT.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("count", type=int)
    count = parser.parse_args().count
    limited = os.access("/sys/fs/cgroup/cgroup.procs", os.W_OK)
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        write_pictures(root / "good", count)
        found = train(root / "good", root, limited=limited)
    if limited:
        _GROUP.rmdir()
    result = {"pictures": count, "limit_gib": LIMIT_GIB if limited else None, **found}
    machine.write(f"many_pictures_{count}", result)
    print(result)


if __name__ == "__main__":
    main()
