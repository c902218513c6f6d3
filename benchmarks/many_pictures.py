"""Training on 300 and on 10,000 pictures within 2 GiB of memory: how long, and how much of it.

    python -m benchmarks.many_pictures 300
    python -m benchmarks.many_pictures 10000 --epochs 1      needs root and control groups

The pictures are 300 x 300: good ELPV cells, each shifted, brightened and given noise by a seed, so
that no two are alike. Training runs in a process of its own, in a control group whose memory
(page cache included) is limited to 2 GiB and whose swap to nothing: beyond it the process would be
killed. Every epoch goes through the same features, so one tells what memory all of them take.
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
_V2 = Path("/sys/fs/cgroup/differnet-benchmark")
_V1 = Path("/sys/fs/cgroup/memory/differnet-benchmark")
_GROUP, _MOST = (_V1, "memory.limit_in_bytes") if _V1.parent.exists() else (_V2, "memory.max")


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


def train(folder: Path, root: Path, options: list[str]) -> dict[str, float]:
    """Trains the default recipe with an empty cache; returns seconds and memory.

    `peak_resident_gib` counts pages of mapped files, which the system takes back when it needs
    them.
    """
    differnet = Path(sys.executable).with_name("differnet")
    command = [str(differnet), "train", "--data", str(folder)]
    command += ["-o", str(root / "model"), "--cache", str(root / "cache"), *options]
    _GROUP.mkdir(exist_ok=True)
    (_GROUP / _MOST).write_text(str(LIMIT_GIB * 2**30))
    start = time.perf_counter()
    subprocess.run(command, check=True, preexec_fn=_limited)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    _GROUP.rmdir()
    return {"training_s": seconds, "peak_resident_gib": peak}


def main() -> None:
    """Measures and writes results/many_pictures_COUNT.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("count", type=int)
    parser.add_argument("--epochs", help="of training, at most (default: the recipe's)")
    args = parser.parse_args()
    options = ["--epochs", args.epochs] if args.epochs else []
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        write_pictures(root / "good", args.count)
        found = train(root / "good", root, options)
    result = {"pictures": args.count, "options": options, "limit_gib": LIMIT_GIB, **found}
    machine.write(f"many_pictures_{args.count}", result)
    print(result)


if __name__ == "__main__":
    main()
