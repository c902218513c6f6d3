"""Runs one of anomalib's models on given pixels; its own environment's Python runs this file.

    python peers_worker.py JOB.json

The job names arrays of pictures, the model and its settings; see `peers.run_peer`. Nothing of this
project is imported here but the file beside it.
"""

from __future__ import annotations

import io
import json
import resource
import statistics
import sys
import time
from pathlib import Path

import numpy as np
import torch
from anomalib.models.image.padim.torch_model import PadimModel
from anomalib.models.image.patchcore.torch_model import PatchcoreModel
from peers_fastflow import load, trained

BATCH = 8
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
SETTLING, TIMED = 3, 15


def main() -> None:
    """Fits the model on each run's training pictures; writes the test pictures' scores."""
    job = json.loads(Path(sys.argv[1]).read_text())
    torch.set_num_threads(job["threads"])
    pictures = np.load(job["pictures"], mmap_mode="r")
    normalisation = job["normalisation"]
    for run in job["runs"]:
        torch.manual_seed(run["seed"])
        about: dict = {}
        start = time.perf_counter()
        if job["method"] == "fastflow":
            model, about["epochs"] = flow(job, pictures, run)
        else:
            model = fitted(job, pictures, run["train"])
        about["training_s"] = round(time.perf_counter() - start, 1)
        scores, maps = judged(model, pictures, run["test"], normalisation)
        np.savez(run["output"], scores=scores, maps=maps if job["maps"] else maps[:0])
        about["latency_ms"] = latency(model, pictures, run["test"], normalisation)
        about["model_bytes"] = saved_bytes(model)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        about["peak_memory_mib"] = round(peak)
        Path(run["output"]).with_suffix(".json").write_text(json.dumps(about))
        print(f"{job['method']} seed {run['seed']}: {about}", flush=True)


def flow(job: dict, pictures: np.ndarray, run: dict) -> tuple[torch.nn.Module, int]:
    """Trains FastFlow, the pictures in another order in each epoch."""

    def epochs(epoch: int):  # noqa: ANN202
        order = np.random.RandomState(1000 * run["seed"] + epoch).permutation(run["train"])
        return batches(pictures, order.tolist(), job["normalisation"])

    model, count = trained(job, pictures.shape[1:3], epochs)
    return model.eval(), count


def fitted(job: dict, pictures: np.ndarray, train: list[int]) -> torch.nn.Module:
    """Builds and fits PaDiM or PatchCore by anomalib's own code."""
    settings = job["settings"]
    common = {"backbone": job["backbone"], "layers": settings["layers"], "pre_trained": False}
    if job["method"] == "padim":
        model = PadimModel(**common, n_features=settings["features"])
    else:
        model = PatchcoreModel(**common, num_neighbors=settings["neighbours"])
    load(model.feature_extractor.feature_extractor, job["weights"])
    model.train()
    model.feature_extractor.eval()
    with torch.inference_mode():
        for x in batches(pictures, train, job.get("normalisation", IMAGENET)):
            model(x)
        if job["method"] == "padim":
            model.fit()
        else:
            model.subsample_embedding(settings["coreset"])
    return model.eval()


def judged(
    model: torch.nn.Module, pictures: np.ndarray, test: list[int], normalisation: list
) -> tuple[np.ndarray, np.ndarray]:
    """Returns scores `(N,)` and maps `(N, H, W)`."""
    scores, maps = [], []
    with torch.inference_mode():
        for x in batches(pictures, test, normalisation):
            found = model(x)
            scores.append(found.pred_score.reshape(-1).numpy())
            maps.append(found.anomaly_map[:, 0].numpy().astype(np.float32))
    return np.concatenate(scores), np.concatenate(maps)


def latency(
    model: torch.nn.Module, pictures: np.ndarray, test: list[int], normalisation: list
) -> float:
    """Returns the median time of one picture in milliseconds, its normalisation included."""
    times = []
    with torch.inference_mode():
        for _ in range(SETTLING + TIMED):
            start = time.perf_counter()
            model(next(batches(pictures, test[:1], normalisation)))
            times.append(time.perf_counter() - start)
    return round(1e3 * statistics.median(times[SETTLING:]), 2)


def saved_bytes(model: torch.nn.Module) -> int:
    """Returns how much the model takes when it is saved."""
    buffer = io.BytesIO()
    torch.save(model.state_dict(), buffer)
    return buffer.tell()


def batches(pictures: np.ndarray, chosen: list[int], normalisation: list | tuple = IMAGENET):  # noqa: ANN201
    """Yields `(N, 3, H, W)` normalised RGB."""
    mean, std = (torch.tensor(v).reshape(1, 3, 1, 1) for v in normalisation)
    for start in range(0, len(chosen), BATCH):
        bgr = np.stack([pictures[k] for k in chosen[start : start + BATCH]])
        x = torch.from_numpy(bgr[..., ::-1].copy()).permute(0, 3, 1, 2).float() / 255
        yield (x - mean) / std


if __name__ == "__main__":
    main()
