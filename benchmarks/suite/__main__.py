"""Every method on every set: the runs, one after the other, and the summary.

    python -m benchmarks.suite --data FOLDER... [--methods METHOD...] [--seeds N] [--sets SET...]
    python -m benchmarks.suite --half report     prints what is there

Each run is kept as it ends, in results/suite/; a command that is repeated goes on. What is judged
is halved by the files' names: one half to choose by, the other to report. `edge-3f18aa6` is the
default before input of any shape: its runs come from that commit's checkout, whose packages stood
first on PYTHONPATH, by `--methods edge --rename edge=edge-3f18aa6`.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from .. import machine
from . import judged
from .halves import HALVES, REPORT
from .judged import Judged, all_kept, keep, kept, record_of
from .sets import PictureSet, find_sets, parse_region
from .show import printed
from .summary import summarised

OURS = (
    "edge",
    "edge-global",
    "paper-lite",
    "gaussian",
    "nearest_neighbour",
    "edge-lite1",
    "edge-lite2",
)
PEERS = ("padim", "patchcore", "fastflow")
Runner = Callable[[PictureSet, str, int], dict[str, Judged]]


def run_all(
    sets: Sequence[PictureSet],
    methods: Sequence[str],
    seeds: Sequence[int],
    runner: Runner,
    *,
    again: bool = False,
    names: dict[str, str] | None = None,
    folder: Path = judged.FOLDER,
) -> None:
    """Runs what is not kept yet, and keeps it.

    Args:
        sets: To be run on.
        methods: Names of the methods to run on each set.
        seeds: Seeds to run each method with.
        runner: Gives one or more methods' scores.
        again: Run what is kept, too.
        names: Under which to keep methods; all others that a run brings along are then dropped.
        folder: Folder of the stored runs.
    """
    names = names or {}
    for seed in seeds:
        for one in sets:
            done: set[str] = set()
            for method in methods:
                name = names.get(method, method)
                if name in done or (not again and kept(one, name, seed, folder) is not None):
                    continue
                start = time.perf_counter()
                found = {
                    names.get(key, key): value
                    for key, value in runner(one, method, seed).items()
                    if not names or key in names
                }
                data, halves = one.opened(seed), one.halves()
                for key, value in found.items():
                    keep(record_of(one, key, seed, data, halves, value), folder)
                done |= set(found)
                seconds = time.perf_counter() - start
                print(f"{one.name} {name} seed {seed}: {seconds:.0f} s", flush=True)


def runner_of(threads: int) -> Runner:
    """Returns what trains and judges our recipes and anomalib's models."""

    def run(one: PictureSet, method: str, seed: int) -> dict[str, Judged]:
        data = one.opened(seed)
        if method in PEERS:
            from . import anomalib

            return {method: anomalib.run(one, data, method, seed, threads)}
        from . import ours

        return ours.run(one, data, ours.recipe_of(method), seed)

    return run


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.suite",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", type=Path, nargs="+", metavar="FOLDER", help="to find sets in")
    parser.add_argument("--methods", nargs="+", choices=(*OURS, *PEERS), default=["edge"])
    parser.add_argument("--seeds", type=int, default=3, help="so many, from 0 on")
    parser.add_argument("--sets", nargs="+", help="of those found; all by default")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--region", type=parse_region, action="append", metavar="SET=x,y,w,h")
    parser.add_argument("--rename", metavar="METHOD=NAME", help="keep a method under another name")
    parser.add_argument("--again", action="store_true", help="run what is kept, too")
    parser.add_argument("--half", choices=HALVES, default=REPORT, help="to print")
    return parser.parse_args()


def _chosen(args: argparse.Namespace) -> list[PictureSet]:
    found = find_sets(args.data, dict(args.region or ()))
    names = {one.name for one in found} | {one.row for one in found}
    if unknown := set(args.sets or ()) - names:
        raise SystemExit(f"no such sets: {sorted(unknown)}; found {sorted(names)}")
    return [one for one in found if not args.sets or {one.name, one.row} & set(args.sets)]


def main() -> None:
    """Runs what is missing, writes the summary where it has changed, and prints it."""
    args = _arguments()
    torch.set_num_threads(args.threads)
    if args.data:
        names = dict([args.rename.split("=")]) if args.rename else None
        run_all(
            _chosen(args),
            args.methods,
            range(args.seeds),
            runner_of(args.threads),
            again=args.again,
            names=names,
        )
    summary = summarised(all_kept())
    path = machine.RESULTS / "suite.json"
    before = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    if {key: before.get(key) for key in summary} != json.loads(json.dumps(summary)):
        machine.write("suite", summary)
    print(printed(summary, args.half))


if __name__ == "__main__":
    main()
