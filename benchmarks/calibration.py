"""Does the promised false-reject rate hold? 200 random calibration splits of real good cells.

    python -m benchmarks.calibration

One `edge` model is trained on part of ELPV's good monocrystalline cells. The scores of all good
cells that it never saw are divided at random 200 times: n of them calibrate, the others are
judged. The printed bound is for an endless line; the share of a finite rest scatters more, by
the beta-binomial law, so the exact bound for that rest is counted beside it.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from scipy.stats import betabinom

from differnet_runtime.calibration import CONFIDENCE, calibrate
from differnet_runtime.metadata import InputContract
from differnet_training.datasets import DataSet, Label, open_data
from differnet_training.features import FeatureReader, ViewPlan, default_cache_folder
from differnet_training.learning import Job, learn, score_features
from differnet_training.model_directory import load_model
from differnet_training.recipes import EDGE

from . import machine

SPLITS = 200
RATE = 0.05


def unseen_scores() -> np.ndarray:
    """Returns scores of good cells that neither training nor early stopping saw."""
    data = open_data("elpv:mono")
    learned = DataSet(data.name, data.good[:200])
    rest = (*data.good[200:], *(p for p in data.test if p.label is Label.GOOD))
    contract = InputContract(size=EDGE.size)
    with tempfile.TemporaryDirectory() as folder:
        learn(Job(learned, EDGE, contract, Path(folder), default_cache_folder()))
        model, metadata = load_model(Path(folder))
        reader = FeatureReader(model.extractor, contract, default_cache_folder())
        features = reader.read(rest, ViewPlan.fixed(metadata.views.angles), "unseen good cells")
        return score_features(model, features.values).astype(np.float64)


def main() -> None:
    """Writes results/calibration.json."""
    scores = unseen_scores()
    random = np.random.RandomState(0)
    rows = []
    for images in (19, 60, 100, 200):
        realised, inside, exact = [], 0, 0
        for _ in range(SPLITS):
            order = random.permutation(len(scores))
            calibration = calibrate(scores[order[:images]].tolist(), RATE, scored_by="torch")
            share = float((scores[order[images:]] > calibration.threshold).mean())
            realised.append(share)
            inside += share <= calibration.bound
            exact += share <= _finite_bound(images, len(scores) - images)
        rows.append(
            {
                "calibration_images": images,
                "judged": len(scores) - images,
                "bound": calibration.bound,
                "mean_realised": float(np.mean(realised)),
                "greatest_realised": max(realised),
                "share_within_bound": inside / SPLITS,
                "share_within_exact_finite_bound": exact / SPLITS,
            }
        )
        print(rows[-1], flush=True)
    machine.write(
        "calibration",
        {"false_reject_rate": RATE, "confidence": CONFIDENCE, "splits": SPLITS, "rows": rows},
    )


def _finite_bound(images: int, judged: int) -> float:
    """Returns the share of `judged` new good parts above the threshold, bounded exactly."""
    rank = int(np.ceil(round((images + 1) * (1 - RATE), 9)))
    return float(betabinom.ppf(CONFIDENCE, judged, images + 1 - rank, rank)) / judged


if __name__ == "__main__":
    main()
