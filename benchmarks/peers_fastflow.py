"""FastFlow on EfficientNet-Lite0, of anomalib's own parts; run by its environment's Python."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

import timm
import torch
from anomalib.models.image.fastflow.anomaly_map import AnomalyMapGenerator
from anomalib.models.image.fastflow.loss import FastflowLoss
from anomalib.models.image.fastflow.torch_model import FastflowModel, create_fast_flow_block
from torch import nn


class LiteFastflow(FastflowModel):
    """FastFlow on any CNN of timm's: its own constructor takes two ResNets and two transformers."""

    def __init__(
        self,
        backbone: str,
        size: tuple[int, int],
        flow_steps: int,
        conv3x3_only: bool = True,
        hidden_ratio: float = 1.0,
    ) -> None:
        nn.Module.__init__(self)
        self.input_size = size
        self.feature_extractor = timm.create_model(
            backbone, pretrained=False, features_only=True, out_indices=[1, 2, 3]
        ).requires_grad_(requires_grad=False)
        info = self.feature_extractor.feature_info
        shapes = [
            [channels, size[0] // reduction, size[1] // reduction]
            for channels, reduction in zip(info.channels(), info.reduction(), strict=True)
        ]
        self.norms = nn.ModuleList(nn.LayerNorm(shape) for shape in shapes)
        self.fast_flow_blocks = nn.ModuleList(
            create_fast_flow_block(
                shape, conv3x3_only=conv3x3_only, hidden_ratio=hidden_ratio, flow_steps=flow_steps
            )
            for shape in shapes
        )
        self.anomaly_map_generator = AnomalyMapGenerator(input_size=self.input_size)


def trained(
    job: dict, size: tuple[int, int], epochs: Callable[[int], Iterable[torch.Tensor]]
) -> tuple[nn.Module, int]:
    """Trains with anomalib's loss and optimizer settings, by epochs and by the clock.

    Args:
        job: Names backbone, weights and settings.
        size: Height and width of the input.
        epochs: From an epoch's number to its batches.

    Returns:
        The model, and how many epochs it had time for.
    """
    settings = job["settings"]
    steps = [settings[key] for key in ("flow_steps", "conv3x3_only", "hidden_ratio")]
    model = LiteFastflow(job["backbone"], size, *steps)
    load(model.feature_extractor, job["weights"])
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, weight_decay=1e-5)
    loss, start = FastflowLoss(), time.perf_counter()
    for epoch in range(settings["epochs"]):
        model.train()
        for x in epochs(epoch):
            value = loss(*model(x))
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
        print(f"fastflow epoch {epoch + 1}: loss {value.item():.4g}", flush=True)
        if time.perf_counter() - start > settings["most_s"]:
            return model, epoch + 1
    return model, settings["epochs"]


def load(network: nn.Module, weights: str) -> None:
    """Loads the extractor's weights; every tensor that it has must be there."""
    state = torch.load(weights, weights_only=True)
    missing, _ = network.load_state_dict(state, strict=False)
    assert not [key for key in missing if not key.endswith("num_batches_tracked")], missing
