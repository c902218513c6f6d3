"""Trains one of anomalib's models on given pixels and exports it by anomalib's own ONNX export.

    python peers_export_worker.py JOB.json

Run by the Python of anomalib's environment; nothing of this project is imported here but the
worker beside it. The job names arrays of pictures, the model, its settings and the output.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
from anomalib.models import Cflow, EfficientAd, Fastflow, Padim, Patchcore
from anomalib.models.image.fastflow.loss import FastflowLoss
from peers_fastflow import LiteFastflow, load
from peers_worker import batches, fitted
from torch import nn

PLAIN = {"evaluator": False, "visualizer": False, "post_processor": False}


def main() -> None:
    """Trains, exports, and writes what it took to OUTPUT/about.json."""
    job = json.loads(Path(sys.argv[1]).read_text())
    torch.set_num_threads(job["threads"])
    torch.manual_seed(job["seed"])
    pictures = np.load(job["pictures"], mmap_mode="r")
    output = Path(job["output"])
    start = time.perf_counter()
    module = TRAINED[job["method"]](job, pictures)
    about = {"training_s": time.perf_counter() - start}
    module.pre_processor = None  # normalised outside, which leaves the peers a little less to do
    size = (job["size"], job["size"])
    module.eval().to_onnx(output, input_size=size, dynamic_shapes=None)  # one frame at a time
    (output / "about.json").write_text(json.dumps(about))


def memorised(job: dict, pictures: np.ndarray) -> nn.Module:
    """Fits PaDiM or PatchCore; see `peers_worker.fitted`."""
    kind = Padim if job["method"] == "padim" else Patchcore
    module = kind(backbone="resnet18", pre_trained=False, **PLAIN)
    module.model = fitted(job, pictures, job["train"])
    for part in module.model.modules():  # fitted in inference mode, whose tensors can't be exported
        for name, buffer in part._buffers.items():
            part._buffers[name] = None if buffer is None else buffer.clone()
    return module


def fastflow(job: dict, pictures: np.ndarray) -> nn.Module:
    """Trains FastFlow for so many epochs, with anomalib's loss and optimizer settings."""
    module = Fastflow(backbone="resnet18", pre_trained=False, **PLAIN)
    module.model = LiteFastflow(
        job["backbone"], (job["size"], job["size"]), job["settings"]["flow_steps"]
    )
    load(module.model.feature_extractor, job["weights"])
    optimizer, loss = module.configure_optimizers(), FastflowLoss()
    module.model.train()
    for epoch in range(job["settings"]["epochs"]):
        for x in shuffled(job, pictures, epoch):
            hidden, jacobians = module.model(x)
            optimizer.zero_grad()
            value = loss(hidden, jacobians)
            value.backward()
            optimizer.step()
        print(f"fastflow epoch {epoch + 1}: loss {value.item():.4g}", flush=True)
    return module


def cflow(job: dict, pictures: np.ndarray) -> nn.Module:
    """Trains CFlow for so many epochs, by its own training step."""
    settings = job["settings"]
    module = Cflow(backbone=job["backbone"], layers=settings["layers"], pre_trained=False, **PLAIN)
    load(module.model.encoder.feature_extractor, job["weights"])
    optimizer = module.configure_optimizers()
    module.optimizers = lambda: optimizer
    module.manual_backward = lambda loss: loss.backward()
    module.log = lambda *_, **__: None
    module.model.decoders.train()
    for epoch in range(settings["epochs"]):
        for x in shuffled(job, pictures, epoch):
            found = module.training_step(Pixels(x))
        print(f"cflow epoch {epoch + 1}: loss {found['loss'].item():.4g}", flush=True)
    return module


class Pixels:
    """What CFlow's training step reads of a batch."""

    def __init__(self, image: torch.Tensor) -> None:
        self.image = image


def efficient_ad(job: dict, pictures: np.ndarray) -> nn.Module:  # noqa: ARG001
    """Returns EfficientAD without its teacher's weights: its time is right, its scores are not."""
    return EfficientAd(**PLAIN)


def shuffled(job: dict, pictures: np.ndarray, epoch: int):  # noqa: ANN201
    """Yields the training pictures' batches, in another order in each epoch."""
    order = np.random.RandomState(1000 * job["seed"] + epoch).permutation(job["train"])
    yield from batches(pictures, order.tolist())


TRAINED = {
    "padim": memorised,
    "patchcore": memorised,
    "fastflow": fastflow,
    "cflow": cflow,
    "efficient_ad": efficient_ad,
}

if __name__ == "__main__":
    main()
