"""Runs one of anomalib's models on given pixels; its own environment's Python runs this file.

    python peers_worker.py JOB.json

The job names arrays of pictures, the model and its settings; see `peers.Job`. Nothing of this
project is imported here.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path

import numpy as np
import torch
from anomalib.models.image.padim.torch_model import PadimModel
from anomalib.models.image.patchcore.torch_model import PatchcoreModel

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
BATCH = 8


def main() -> None:
    """Fits the model on each run's training pictures; writes the test pictures' scores."""
    job = json.loads(Path(sys.argv[1]).read_text())
    torch.set_num_threads(job["threads"])
    pictures = np.load(job["pictures"], mmap_mode="r")
    for run in job["runs"]:
        torch.manual_seed(run["seed"])
        start = time.perf_counter()
        model = fitted(job, pictures, run["train"])
        seconds = time.perf_counter() - start
        scores, maps = judged(model, pictures, run["test"])
        np.savez(run["output"], scores=scores, maps=maps if job["maps"] else maps[:0])
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        about = {"training_s": round(seconds, 1), "peak_memory_mib": round(peak)}
        Path(run["output"]).with_suffix(".json").write_text(json.dumps(about))
        print(f"{job['method']} seed {run['seed']}: {about}", flush=True)


def fitted(job: dict, pictures: np.ndarray, train: list[int]) -> torch.nn.Module:
    """Builds and fits a model by anomalib's own code."""
    settings = job["settings"]
    common = {"backbone": job["backbone"], "layers": settings["layers"], "pre_trained": False}
    if job["method"] == "padim":
        model = PadimModel(**common, n_features=settings["features"])
    else:
        model = PatchcoreModel(**common, num_neighbors=settings["neighbours"])
    weights = torch.load(job["weights"], weights_only=True)
    missing, _ = model.feature_extractor.feature_extractor.load_state_dict(weights, strict=False)
    assert not [key for key in missing if not key.endswith("num_batches_tracked")], missing
    model.train()
    model.feature_extractor.eval()
    with torch.inference_mode():
        for x in batches(pictures, train):
            model(x)
        if job["method"] == "padim":
            model.fit()
        else:
            model.subsample_embedding(settings["coreset"])
    return model.eval()


def judged(
    model: torch.nn.Module, pictures: np.ndarray, test: list[int]
) -> tuple[np.ndarray, np.ndarray]:
    """Returns scores `(N,)` and maps `(N, S, S)`."""
    scores, maps = [], []
    with torch.inference_mode():
        for x in batches(pictures, test):
            found = model(x)
            scores.append(found.pred_score.reshape(-1).numpy())
            maps.append(found.anomaly_map[:, 0].numpy().astype(np.float32))
    return np.concatenate(scores), np.concatenate(maps)


def batches(pictures: np.ndarray, chosen: list[int]):  # noqa: ANN201
    """Yields `(N, 3, S, S)` normalised RGB."""
    mean, std = (torch.tensor(v).reshape(1, 3, 1, 1) for v in (MEAN, STD))
    for start in range(0, len(chosen), BATCH):
        bgr = np.stack([pictures[k] for k in chosen[start : start + BATCH]])
        x = torch.from_numpy(bgr[..., ::-1].copy()).permute(0, 3, 1, 2).float() / 255
        yield (x - mean) / std


if __name__ == "__main__":
    main()
