"""Does the promised false-reject rate hold? Random calibration splits of real good cells.

    python -m benchmarks.calibration

One `edge` model is trained on part of ELPV's good monocrystalline cells. The scores of all good
cells that it never saw are divided at random, 2,000 times: n of them calibrate, the others are the
next batch. A split keeps the promise if it rejects at most as many as `promised_rejects` says for
so many. The first 200 splits are counted by themselves as well; `by_the_law` is the probability by
the beta-binomial law (SciPy's, not the product's own). The long-run bound is no promise for so
few judged, and is counted to show that.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import betabinom

from differnet_runtime.inspection.calibration import (
    CONFIDENCE,
    calibrate,
    promised_rejects,
    threshold_rank,
)
from differnet_training.datasets import DataSet, Label, open_data
from differnet_training.features import FeatureReader, ViewPlan, default_cache_folder
from differnet_training.job import TrainingSettings
from differnet_training.learning import learn
from differnet_training.model import load_model
from differnet_training.recipes import EDGE

from . import machine
from .models import contract_of

FIRST, SPLITS = 200, 2000
RATE = 0.05


def unseen_scores() -> NDArray[np.float64]:
    """Returns scores of good cells that neither training nor early stopping saw."""
    data = open_data("elpv:mono")
    learned = DataSet(data.name, data.good[:200])
    rest = (*data.good[200:], *(p for p in data.test if p.label is Label.GOOD))
    contract = contract_of(EDGE)
    with tempfile.TemporaryDirectory() as folder:
        learn(TrainingSettings(learned, EDGE, contract, Path(folder), default_cache_folder()))
        model, metadata = load_model(Path(folder))
        reader = FeatureReader(
            model.extractor, contract, default_cache_folder(), heads=metadata.heads
        )
        features = reader.read(rest, ViewPlan.fixed(metadata.views.angles), "unseen good cells")
        return model.judge_features(features.values).scores.astype(np.float64)


def row(scores: NDArray[np.float64], images: int) -> dict[str, Any]:
    """Divides the scores 2,000 times into `images` that calibrate and the others to judge."""
    random = np.random.RandomState(images)
    judged = len(scores) - images
    rejected = np.empty(SPLITS, int)
    for split in range(SPLITS):
        order = random.permutation(len(scores))
        calibration = calibrate(scores[order[:images]].tolist(), RATE, scored_by="torch")
        rejected[split] = (scores[order[images:]] > calibration.threshold).sum()
    promised = promised_rejects(calibration, judged)
    rank = threshold_rank(images, RATE)
    return {
        "calibration_images": images,
        "judged": judged,
        "promised_at_most": promised,
        "mean_realised": float(rejected.mean() / judged),
        "greatest_rejected": int(rejected.max()),
        "kept": {
            "first": float((rejected[:FIRST] <= promised).mean()),
            "all": float((rejected <= promised).mean()),
            "by_the_law": float(betabinom.cdf(promised, judged, images + 1 - rank, rank)),
        },
        "long_run_bound": calibration.bound,
        "within_long_run_bound": float((rejected <= calibration.bound * judged).mean()),
    }


def main() -> None:
    """Writes results/calibration.json."""
    scores = unseen_scores()
    rows = []
    for images in (19, 60, 100, 200):
        rows.append(row(scores, images))
        print(rows[-1], flush=True)
    machine.write(
        "calibration",
        {
            "false_reject_rate": RATE,
            "confidence": CONFIDENCE,
            "splits": {"first": FIRST, "all": SPLITS},
            "rows": rows,
        },
    )


if __name__ == "__main__":
    main()
