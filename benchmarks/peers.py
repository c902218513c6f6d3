"""anomalib's PaDiM and PatchCore on the same pictures, splits and extractor weights.

    python -m benchmarks.peers --auroc           ELPV, the half that is reported, as in accuracy.py
    python -m benchmarks.peers --localization    synthetic defects, beside our heatmaps

anomalib gets an environment of its own in the cache (minutes, once). Its models see the very
pixels that ours see, with the weights of the same EfficientNet-Lite0. PaDiM takes the output of
stages 1, 2 and 4 and 100 of their features; PatchCore stages 2 and 4 and a coreset of 1 %
(its paper goes down to 1 %; anomalib's 10 % takes hours on two cores). Both learn from every
picture of the pool; ours leave a fifth of it to calibration.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from numpy.typing import NDArray

from differnet_runtime.images import read_image
from differnet_runtime.inspection.preprocess import preprocess
from differnet_runtime.model_file.contract import InputContract
from differnet_training.datasets import ImageFile, Label, open_data
from differnet_training.features import default_cache_folder
from differnet_training.localization import aupro, pixel_auroc
from differnet_training.results import auroc
from differnet_training.weights import packaged_state

from . import machine
from .accuracy import HALVES_SEED, SETS, halves, split

ANOMALIB = "anomalib==2.7.0"
BACKBONE = "tf_efficientnet_lite0"
METHODS: dict[str, dict[str, Any]] = {
    "padim": {"layers": ["blocks.1", "blocks.2", "blocks.4"], "features": 100},
    "patchcore": {"layers": ["blocks.2", "blocks.4"], "coreset": 0.01, "neighbours": 9},
}
SIZE = 256
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@dataclass(frozen=True)
class Run:
    """One split, by the pictures' positions."""

    seed: int
    train: list[int]
    test: list[int]


@dataclass(frozen=True)
class Found:
    """What a peer made of one run's test pictures: `(N,)` scores, `(N, H, W)` maps or none."""

    scores: NDArray[np.float32]
    maps: NDArray[np.float32]
    about: dict[str, Any]


def environment() -> Path:
    """Returns the Python of anomalib's environment; makes it if it is not there."""
    folder = default_cache_folder().parent / "peers-venv"
    python = folder / "bin" / "python"
    ready = folder / ANOMALIB
    if not ready.exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", ANOMALIB], check=True)
        ready.touch()
    return python


def run_peer(
    method: str,
    pictures: Sequence[ImageFile],
    runs: Sequence[Run],
    *,
    maps: bool,
    threads: int,
    contract: InputContract | None = None,
    settings: dict[str, Any] | None = None,
    normalisation: tuple[tuple[float, ...], tuple[float, ...]] = IMAGENET,
) -> list[Found]:
    """Fits and judges a peer on each run.

    Args:
        method: One of `METHODS`, or `fastflow`.
        pictures: All that the runs name by position.
        runs: To be done one after the other.
        maps: Keep the anomaly maps too.
        threads: Of torch.
        contract: How pictures become pixels; None takes a square of `SIZE`.
        settings: Of the method; None takes those of `METHODS`.
        normalisation: Mean and standard deviation, RGB in 0..1.
    """
    contract = InputContract.model_validate({"size": SIZE}) if contract is None else contract
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.save(
            folder / "pictures.npy",
            np.stack([preprocess(read_image(picture.path), contract) for picture in pictures]),
        )
        network = timm.create_model(BACKBONE, pretrained=False)
        torch.save(packaged_state("efficientnet_lite0", network), folder / "weights.pt")
        job = {
            "method": method,
            "backbone": BACKBONE,
            "settings": METHODS[method] if settings is None else settings,
            "normalisation": normalisation,
            "pictures": str(folder / "pictures.npy"),
            "weights": str(folder / "weights.pt"),
            "threads": threads,
            "maps": maps,
            "runs": [
                {**vars(run), "output": str(folder / f"{index}.npz")}
                for index, run in enumerate(runs)
            ],
        }
        (folder / "job.json").write_text(json.dumps(job))
        worker = Path(__file__).with_name("peers_worker.py")
        subprocess.run([environment(), worker, folder / "job.json"], check=True)
        return [_found(folder / f"{index}") for index in range(len(runs))]


def _found(stem: Path) -> Found:
    with np.load(stem.with_suffix(".npz")) as arrays:
        about = json.loads(stem.with_suffix(".json").read_text())
        return Found(arrays["scores"], arrays["maps"], about)


def _elpv(method: str, kind: str, seeds: int, threads: int) -> dict[str, Any]:
    half = halves(kind)[1]
    pictures = [*half.good, *half.defect]
    position = {picture.path: index for index, picture in enumerate(pictures)}
    defects = [position[picture.path] for picture in half.defect]
    runs, held = [], []
    for seed in range(seeds):
        pool, rest = split(half, seed)
        test = [position[picture.path] for picture in rest]
        held.append(len(test))
        runs.append(Run(seed, [position[picture.path] for picture in pool], [*test, *defects]))
    found = run_peer(method, pictures, runs, maps=False, threads=threads)
    aurocs = [
        auroc(one.scores[:good].astype(np.float64), one.scores[good:].astype(np.float64))
        for one, good in zip(found, held, strict=True)
    ]
    print(method, kind, [round(value, 4) for value in aurocs], flush=True)
    return {
        "mean": float(np.mean(aurocs)),
        "standard_deviation": float(np.std(aurocs, ddof=min(1, seeds - 1))),
        "runs": [{"image_auroc": a, **f.about} for a, f in zip(aurocs, found, strict=True)],
    }


def located(folder: Path, maps: Sequence[NDArray[np.float32]], scores: Any) -> dict[str, float]:  # noqa: ANN401
    """Judges maps of a synthetic set's test pictures, in the order of `open_data(folder).test`."""
    pictures = open_data(str(folder)).test
    masks = [_mask(picture) for picture in pictures]
    good = np.array([picture.label is Label.GOOD for picture in pictures])
    values = np.asarray(scores, np.float64)
    return {
        "image_auroc": auroc(values[good], values[~good]),
        "pixel_auroc": pixel_auroc(maps, masks),
        "aupro": aupro(maps, masks),
    }


def _mask(picture: ImageFile) -> NDArray[np.bool_]:
    if picture.mask is None:
        return np.zeros((SIZE, SIZE), bool)
    mask: NDArray[np.bool_] = read_image(picture.mask) > 0
    return mask if mask.ndim == 2 else mask[:, :, 0]


def _localization(folder: Path, methods: Sequence[str], threads: int) -> dict[str, Any]:
    from .localization import ours

    data = open_data(str(folder))
    pictures = [*data.good, *data.test]
    run = Run(0, list(range(len(data.good))), list(range(len(data.good), len(pictures))))
    result: dict[str, Any] = {"ours": ours(folder)}
    for method in methods:
        found = run_peer(method, pictures, [run], maps=True, threads=threads)[0]
        result[method] = {**located(folder, list(found.maps), found.scores), **found.about}
        print(method, result[method], flush=True)
    return result


def _kept_rows(name: str, key: str) -> dict[str, Any]:
    path = machine.RESULTS / f"{name}.json"
    rows: dict[str, Any] = json.loads(path.read_text())[key] if path.is_file() else {}
    return rows


def main() -> None:
    """Runs what the arguments ask for and writes it to results/."""
    parser = argparse.ArgumentParser(description=__doc__)
    mode = parser.add_mutually_exclusive_group(required=True)
    mode.add_argument("--auroc", action="store_true")
    mode.add_argument("--localization", action="store_true")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--methods", nargs="+", choices=tuple(METHODS), default=list(METHODS))
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--add", action="store_true", help="to the rows that are there")
    args = parser.parse_args()
    about = {
        "anomalib": ANOMALIB,
        "backbone": BACKBONE,
        "settings": {name: METHODS[name] for name in args.methods},
    }
    if args.auroc:
        table = _kept_rows("peers_auroc", "image_auroc") if args.add else {}
        for method in args.methods:
            for kind in args.sets:
                row = _elpv(method, kind, args.seeds, args.threads)
                table.setdefault(method, {})[kind] = row
        settings = {name: METHODS[name] for name in table}
        about = {**about, "settings": settings, "half": "report", "halves_seed": HALVES_SEED}
        machine.write("peers_auroc", {**about, "image_auroc": table})
        return
    from .synthetic import make_set

    with tempfile.TemporaryDirectory() as name:
        found = _localization(make_set(Path(name) / "cells"), args.methods, args.threads)
    machine.write("peers_localization", {**about, "half": "report", "seed": 0, "methods": found})


if __name__ == "__main__":
    main()
