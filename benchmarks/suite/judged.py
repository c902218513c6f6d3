"""What one method made of one set with one seed, and how it is kept."""

from __future__ import annotations

import json
import math
import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

import differnet_training
from differnet_runtime.errors import DataError
from differnet_runtime.images import read_image
from differnet_runtime.inspection.preprocess import preprocess
from differnet_runtime.model_file.contract import InputContract
from differnet_training.datasets import DataSet, ImageFile, Label
from differnet_training.localization import aupro, pixel_auroc

from .. import machine
from .halves import HALVES, WHOLE, Halves
from .sets import PictureSet

FOLDER = machine.RESULTS / "suite"
Map = NDArray[np.float32]
Record = dict[str, Any]


@dataclass(frozen=True)
class Judged:
    """What a method gives.

    Args:
        scores: In the order of the judged pictures; not finite where it has none.
        contract: Size, region and fit of the input that the method saw.
        maps: Anomaly maps, brought to the input's size; empty where there are none.
        calibration: Scores of good pictures that were left to calibration; empty where none were.
        about: Training time, latency, size of the model, and what else there is to say.
    """

    scores: Sequence[float]
    contract: InputContract
    maps: Sequence[Map] = ()
    calibration: Sequence[float] = ()
    about: dict[str, Any] = field(default_factory=dict)


def record_of(
    one: PictureSet, method: str, seed: int, data: DataSet, halves: Halves, judged: Judged
) -> Record:
    """Makes what is kept of a run: every picture's score, and figures that need the maps."""
    region = judged.contract.region
    return {
        "set": one.name,
        "row": one.row,
        "method": method,
        "seed": seed,
        "input": list(judged.contract.shape[:2]),
        "region": None if region is None else str(region),
        "own_split": one.train is not None,
        "train_images": len(data.good),
        **judged.about,
        "pixels": pixel_figures(data.test, halves, judged),
        "calibration": sorted(rounded(score) for score in judged.calibration),
        "scores": _by_half(data.test, halves, judged.scores),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 2),
        "commit": _commit(),
        "measured": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def rounded(score: float) -> float | None:
    """Rounds to 6 significant digits; None for what is not finite, which counts as rejected."""
    return float(f"{score:.6g}") if math.isfinite(score) else None


def _by_half(
    pictures: Sequence[ImageFile], halves: Halves, scores: Sequence[float]
) -> dict[str, dict[str, dict[str, float | None]]]:
    """Returns scores by half, kind and file name."""
    found: dict[str, dict[str, dict[str, float | None]]] = {}
    for picture, score in zip(pictures, scores, strict=True):
        half = found.setdefault(halves[picture.kind, picture.path.name], {})
        half.setdefault(picture.kind, {})[picture.path.name] = rounded(float(score))
    return found


def pixel_figures(
    pictures: Sequence[ImageFile], halves: Halves, judged: Judged
) -> dict[str, dict[str, float]]:
    """Returns pixel AUROC and AUPRO of each half, from good pictures and those with a mask."""
    if not len(judged.maps) or not any(picture.mask for picture in pictures):
        return {}
    kept = [k for k, p in enumerate(pictures) if p.label is Label.GOOD or p.mask is not None]
    masks = {k: mask_of(pictures[k], judged.contract) for k in kept}
    found = {}
    for name in HALVES:
        chosen = [k for k in kept if name in (WHOLE, halves[_key(pictures[k])])]
        maps = [judged.maps[k] for k in chosen]
        marked = [masks[k] for k in chosen]
        if any(mask.any() for mask in marked):
            values = {"pixel_auroc": pixel_auroc(maps, marked), "aupro": aupro(maps, marked)}
            found[name] = {key: round(value, 5) for key, value in values.items()}
    return found


def _key(picture: ImageFile) -> tuple[str, str]:
    return picture.kind, picture.path.name


def mask_of(picture: ImageFile, contract: InputContract) -> NDArray[np.bool_]:
    """Brings a mask to the input as its picture is brought; a good picture's is empty.

    A mask of another size than its picture is brought to the picture's size first.
    """
    if picture.mask is None:
        return np.zeros(contract.shape[:2], bool)
    mask, image = read_image(picture.mask), read_image(picture.path)
    marked = np.where((mask if mask.ndim == 2 else mask[:, :, 0]) > 0, 255, 0).astype(np.uint8)
    if marked.shape != image.shape[:2]:
        marked = cv2.resize(marked, image.shape[1::-1], interpolation=cv2.INTER_NEAREST)
    inside: NDArray[np.bool_] = preprocess(marked, contract)[:, :, 0] > 127
    return inside


def path_of(name: str, method: str, seed: int, folder: Path = FOLDER) -> Path:
    """Returns where a run is kept."""
    return folder / f"{name}--{method}--seed{seed}.json"


def keep(record: Record, folder: Path = FOLDER) -> Path:
    """Writes a run, whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    path = path_of(record["set"], record["method"], record["seed"], folder)
    draft = path.with_suffix(".part")
    draft.write_text(json.dumps(record, separators=(",", ":")) + "\n", encoding="utf-8")
    draft.replace(path)
    return path


def kept(one: PictureSet, method: str, seed: int, folder: Path = FOLDER) -> Record | None:
    """Returns a run that was kept, unless it was of another region or another kind of split."""
    path = path_of(one.name, method, seed, folder)
    if not path.is_file():
        return None
    record: Record = json.loads(path.read_text(encoding="utf-8"))
    region = None if one.region is None else ",".join(map(str, one.region))
    same = (record["region"], record["own_split"]) == (region, one.train is not None)
    return record if same else None


def all_kept(folder: Path = FOLDER) -> list[Record]:
    """Returns every run that was kept."""
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]


def _commit() -> str:
    """Returns the commit of the training code that ran, which may be an older checkout's."""
    folder = Path(differnet_training.__file__).parent
    run = ["git", "-C", str(folder), "describe", "--always", "--dirty"]
    found = subprocess.run(run, capture_output=True, text=True, check=False).stdout.strip()
    if not found:
        raise DataError(f"{folder} is in no checkout; results name the commit that made them")
    return found
