"""The baseline computes what the product computes: only then may their times be compared."""

import cv2
import numpy as np
import pytest
import torch
from torchvision.models import alexnet

from benchmarks.original import same_on_both_sides
from benchmarks.original_procedure import OriginalProcedure
from differnet_runtime.images import write_image
from differnet_runtime.metadata import FlowSpec
from differnet_training.datasets import Label, Picture
from differnet_training.extractors import alexnet_extractor
from differnet_training.flow import NormalizingFlow
from differnet_training.recipes import PAPER

SMALL = PAPER.model_copy(update={"size": 256, "width": 16, "blocks": 2, "test_views": 2})


def picture(seed: int, size: int = 256) -> np.ndarray:
    coarse = np.random.RandomState(seed).randint(0, 256, (9, 9, 3)).astype(np.uint8)
    return cv2.resize(coarse, (size, size))


def test_the_original_and_this_runtime_give_the_same_score() -> None:
    torch.manual_seed(0)
    extractor = alexnet_extractor(alexnet(weights=None).features.state_dict())
    pair = same_on_both_sides(extractor, SMALL, threads=1)
    scores = {name: score(picture(1)) for name, score in pair.items()}
    assert scores["ours"] == pytest.approx(scores["original"], rel=1e-4)


def test_the_flow_learns_and_the_extractor_does_not(tmp_path) -> None:
    torch.manual_seed(0)
    pictures = []
    for k in range(3):
        write_image(tmp_path / f"{k}.png", picture(k, 90))
        pictures.append(Picture(tmp_path / f"{k}.png", Label.GOOD, "good"))
    flow = NormalizingFlow(FlowSpec(features=768, blocks=2, width=16))
    procedure = OriginalProcedure(alexnet(weights=None).features, flow, size=256)
    before = [parameter.detach().clone() for parameter in procedure.network.parameters()]
    losses = [procedure.step(pictures) for _ in range(8)]
    assert np.mean(losses[-3:]) < np.mean(losses[:3])
    for old, new in zip(before, procedure.network.parameters(), strict=True):
        assert torch.equal(old, new)
    assert all(p.grad is not None for p in procedure.network.parameters())
