"""Painted detection limits beside real defects: which of known size and contrast are found.

    python -m benchmarks.detection_limits --data FOLDER... --sets mtd kolektor_sdd

Trains the default on good pictures of a set, with the limits that `differnet train` measures on
painted defects. Then judges the real defects that have masks. A real defect is measured in the
model's input: the largest connected part of its mask, its contrast against a ring around it. Where
it is four times as long as wide, it is held against the limits of a scratch, else of a dark or a
bright spot. Results of the sets are written one by one.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from differnet_runtime.images import read_image
from differnet_runtime.inspection.preprocess import preprocess
from differnet_runtime.model_file.contract import InputContract
from differnet_runtime.model_file.detection_limits import DefectKind, DetectionLimits
from differnet_training.datasets import ImageFile, Label
from differnet_training.features import FeatureReader, ViewPlan, default_cache_folder
from differnet_training.geometry import choose_contract
from differnet_training.job import TrainingSettings
from differnet_training.learning import learn
from differnet_training.model import load_model
from differnet_training.recipes import EDGE

from . import machine
from .suite.sets import PictureSet, find_sets

NAME = "detection_limits"
PICTURES = 150
RING = 5
"""Width in pixels of the ring that a defect's contrast is measured against."""

ELONGATED = 4.0


@dataclass(frozen=True)
class RealDefect:
    """A defect in the model's input.

    Args:
        kind: What it is held against.
        size: Length of what is elongated, else the diameter of a disc of its area, in pixels.
        contrast: Its mean against that of the ring around it, in grey levels; not negative.
    """

    kind: DefectKind
    size: float
    contrast: float


def measured(image: NDArray[np.uint8], mask: NDArray[np.uint8]) -> RealDefect | None:
    """Measures the largest part of a mask in a picture; None for an empty mask.

    Args:
        image: `(H, W, 3) uint8`.
        mask: `(H, W) uint8`, above 127 where the defect is.
    """
    count, labels, stats, _ = cv2.connectedComponentsWithStats((mask > 127).astype(np.uint8))
    if count < 2:
        return None
    part = (labels == 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())).astype(np.uint8)
    kernel = np.ones((2 * RING + 1, 2 * RING + 1), np.uint8)
    ring = (cv2.dilate(part, kernel) > 0) & (mask <= 127)
    if not ring.any():
        return None
    grey = image.mean(axis=2)
    difference = float(grey[part > 0].mean() - grey[ring].mean())
    outline = np.argwhere(part)[:, ::-1].astype(np.float32)
    sides = np.array(cv2.minAreaRect(outline)[1]) + 1
    elongated = sides.max() >= ELONGATED * sides.min()
    spot: DefectKind = "dark_spot" if difference < 0 else "bright_spot"
    size = sides.max() if elongated else 2 * np.sqrt(part.sum() / np.pi)
    return RealDefect("scratch" if elongated else spot, float(size), abs(difference))


def expectation(defect: RealDefect, limits: DetectionLimits) -> str:
    """Says where a defect lies to the painted limits: `above`, `below`, or `faint`.

    `faint` is of a lower contrast than any painted; else the limit at the highest painted contrast
    that it reaches counts.
    """
    reached = [
        limit
        for limit in limits.of(defect.kind)
        if limit.contrast is not None and limit.contrast <= defect.contrast
    ]
    if not reached:
        return "faint"
    size = reached[-1].size
    return "above" if size is not None and defect.size >= size else "below"


def run(one: PictureSet, pictures: int, seed: int) -> dict[str, Any]:
    """Trains on a set's good pictures and holds its defects against the painted limits."""
    data = one.opened(0)
    order = np.random.RandomState(seed).permutation(len(data.good))[:pictures]
    learned = replace(data, good=tuple(data.good[k] for k in sorted(order)), test=())
    contract = choose_contract(EDGE, learned.good)
    defects = [p for p in data.test if p.label is Label.DEFECT and p.mask is not None]
    good = [p for p in data.test if p.label is Label.GOOD]
    cache = default_cache_folder()
    with tempfile.TemporaryDirectory() as folder:
        job = TrainingSettings(
            learned, EDGE, contract, Path(folder), cache, seed, detection_limits=True
        )
        learn(job)
        model, metadata = load_model(Path(folder))
    reader = FeatureReader(model.extractor, contract, cache, heads=metadata.heads)
    limits, calibration = metadata.detection_limits, metadata.calibration
    assert limits is not None
    assert calibration is not None

    def rejected(chosen: Sequence[ImageFile]) -> NDArray[np.bool_]:
        found = reader.read(chosen, ViewPlan.fixed((0.0,)), one.name)
        return np.asarray(model.judge_features(found.values).scores > calibration.threshold)

    rows = []
    for picture, found in zip(defects, rejected(defects), strict=True):
        assert picture.mask is not None
        image = preprocess(read_image(picture.path), contract)
        defect = measured(image, _mask(picture.mask, contract))
        if defect is not None:
            rows.append(
                {
                    "of": picture.kind,
                    **asdict(defect),
                    "expected": expectation(defect, limits),
                    "found": bool(found),
                }
            )
    return {
        "learned": len(learned.good),
        "input": [contract.height, contract.width],
        "limits": limits.model_dump(mode="json"),
        "false_rejects": float(rejected(good).mean()) if good else None,
        "summary": summary(rows),
        "defects": rows,
    }


def _mask(path: Path, contract: InputContract) -> NDArray[np.uint8]:
    mask = read_image(path)
    grey = mask if mask.ndim == 2 else mask[:, :, :3].max(axis=2)
    return preprocess(((grey > 127) * 255).astype(np.uint8), contract)[:, :, 0]


def summary(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Returns how many defects are found, by expectation and by the set's kind."""
    return {
        "expected": {
            name: _found([row for row in rows if row["expected"] == name])
            for name in ("above", "below", "faint")
        },
        "of": {
            name: _found([row for row in rows if row["of"] == name])
            for name in sorted({row["of"] for row in rows})
        },
    }


def _found(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    def medians(chosen: Iterable[dict[str, Any]]) -> dict[str, float] | None:
        values = [(row["size"], row["contrast"]) for row in chosen]
        if not values:
            return None
        size, contrast = np.median(values, axis=0)
        return {"size": round(float(size), 1), "contrast": round(float(contrast), 1)}

    return {
        "defects": len(rows),
        "found": sum(row["found"] for row in rows),
        "median_found": medians(row for row in rows if row["found"]),
        "median_missed": medians(row for row in rows if not row["found"]),
    }


def main() -> None:
    """Runs the sets; writes results/detection_limits.json after each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, nargs="+", required=True, metavar="FOLDER")
    parser.add_argument("--sets", nargs="+", default=["mtd", "kolektor_sdd"])
    parser.add_argument("--pictures", type=int, default=PICTURES, help="good ones to learn from")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    path = machine.RESULTS / f"{NAME}.json"
    sets: dict[str, Any] = json.loads(path.read_text())["sets"] if path.is_file() else {}
    for one in find_sets(args.data):
        if one.name in args.sets:
            sets[one.name] = run(one, args.pictures, args.seed)
            machine.write(NAME, {"sets": sets})
            print(one.name, json.dumps(sets[one.name]["summary"], indent=1), flush=True)


if __name__ == "__main__":
    main()
