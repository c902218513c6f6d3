"""The baseline computes what the product computes: only then may their times be compared."""

import cv2
import numpy as np
import pytest
import torch
from torchvision.models import alexnet

from benchmarks.original import same_on_both_sides
from benchmarks.original_procedure import OriginalProcedure
from differnet_runtime.images import write_image
from differnet_runtime.model_file.metadata import FlowSpec
from differnet_training.datasets import ImageFile, Label
from differnet_training.extractors import FeatureExtractor, alexnet_extractor, build_extractor
from differnet_training.flow import NormalizingFlow
from differnet_training.recipes import PAPER, PAPER_LITE, Recipe

FLOW = {"size": 256, "width": 16, "blocks": 2, "test_views": 3}  # two of the views are oblique


def picture(seed: int, size: int = 256) -> np.ndarray:
    coarse = np.random.RandomState(seed).randint(0, 256, (9, 9, 3)).astype(np.uint8)
    return cv2.resize(coarse, (size, size))


def random_alexnet(recipe: Recipe) -> FeatureExtractor:
    torch.manual_seed(0)
    return alexnet_extractor(alexnet(weights=None).features.state_dict())


def lite0(recipe: Recipe) -> FeatureExtractor:
    return build_extractor(**recipe.reading())


# Rotation is the same to the pixel, at oblique angles too. What is not 256 px already, Pillow
# resizes bilinearly and this runtime by areas: at most 3.3e-5 of the score of a random AlexNet and
# 7.8e-3 of Lite0's on four such pictures.
@pytest.mark.parametrize(
    ("build", "recipe", "size", "tolerance"),
    [
        (random_alexnet, PAPER, 256, 1e-6),
        (random_alexnet, PAPER, 300, 1e-4),
        (lite0, PAPER_LITE, 256, 1e-6),
        (lite0, PAPER_LITE, 300, 1e-2),
    ],
    ids=["alexnet", "alexnet, resized", "lite0", "lite0, resized"],
)
def test_the_original_and_this_runtime_score_alike_but_for_resizing(
    build, recipe, size, tolerance
) -> None:
    small = recipe.model_copy(update=FLOW)
    pair = same_on_both_sides(build(small), small, threads=1)
    ours, original = ({p: score(picture(p, size)) for p in (1, 2)} for score in pair.values())
    assert ours == pytest.approx(original, rel=tolerance)


def test_the_flow_learns_and_the_extractor_does_not(tmp_path) -> None:
    torch.manual_seed(0)
    pictures = []
    for k in range(3):
        write_image(tmp_path / f"{k}.png", picture(k, 90))
        pictures.append(ImageFile(tmp_path / f"{k}.png", Label.GOOD, "good"))
    flow = NormalizingFlow(FlowSpec(features=768, blocks=2, width=16))
    procedure = OriginalProcedure(alexnet(weights=None).features, flow, size=256)
    before = [parameter.detach().clone() for parameter in procedure.network.parameters()]
    losses = [procedure.step(pictures) for _ in range(8)]
    assert np.mean(losses[-3:]) < np.mean(losses[:3])
    for old, new in zip(before, procedure.network.parameters(), strict=True):
        assert torch.equal(old, new)
    assert all(p.grad is not None for p in procedure.network.parameters())
