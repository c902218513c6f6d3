"""State dicts in the format of the original repository, with random weights."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.models import alexnet


def original_state(width: int, *, features: int = 768, blocks: int = 8) -> dict[str, Tensor]:
    """Makes what the original's `save_weights` would write for a flow of that width."""
    torch.manual_seed(0)
    state = {f"feature_extractor.{k}": v for k, v in alexnet(weights=None).state_dict().items()}
    half = features // 2
    for block in range(blocks):
        for subnet in ("s1", "s2"):
            prefix = f"nf.module_list.{2 * block + 2}.{subnet}."
            shapes = {"fc1": (half, width), "fc2": (width, width), "fc2b": (width, width)}
            for name, (inputs, outputs) in {**shapes, "fc3": (width, features)}.items():
                layer = torch.nn.Linear(inputs, outputs)
                state[f"{prefix}{name}.weight"] = layer.weight.detach()
                state[f"{prefix}{name}.bias"] = layer.bias.detach()
            for key, value in torch.nn.BatchNorm1d(half).state_dict().items():
                state[f"{prefix}bn.{key}"] = value
    return state
