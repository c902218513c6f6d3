"""What scripts make of recipes: inputs for square pictures, untrained models, feature readers."""

from __future__ import annotations

from pathlib import Path

import torch

from differnet_runtime.model_file.contract import InputContract
from differnet_runtime.model_file.metadata import Head
from differnet_training.extractors import FeatureExtractor, build_extractor
from differnet_training.features import FeatureReader
from differnet_training.geometry import choose_size
from differnet_training.heads import HeadedModel
from differnet_training.model import DifferNet, Model
from differnet_training.recipes import EDGE_GLOBAL, Recipe

WINDOWS = EDGE_GLOBAL.model_copy(
    update={
        "name": "windows",
        "tap": (2, 4, 10),
        "scales": (1, 2),
        "kept": (72, 24),
        "pooling": 16,
        "placed": True,
        "blocks": 2,
        "width": 64,
        "rotation": "none",
        "epochs": 8,
        "patience": 3,
        "batch_images": 4,
        "score": "likelihood",
    }
)
"""One flow on windows in one view: the default before there were heads."""


def contract_of(recipe: Recipe) -> InputContract:
    """Returns a recipe's input for square pictures, as ELPV's cells are."""
    size = (recipe.size, recipe.size) if recipe.size is not None else choose_size([(1, 1)])
    return InputContract(height=size[0], width=size[1])


def heads_of(recipe: Recipe, extractor: FeatureExtractor) -> tuple[Head, ...]:
    """Returns the shapes of a recipe's heads."""
    taps = extractor.spec.tap
    if not recipe.heads or not isinstance(taps, tuple):
        return ()
    with torch.no_grad():
        maps = extractor.maps(torch.zeros(1, 3, 64, 64))
    channels = dict(zip(taps, (int(found.shape[1]) for found in maps), strict=True))
    return tuple(
        part.head(sum(channels[tap] for tap in part.taps), contract_of(recipe))
        for part in recipe.heads
    )


def untrained(recipe: Recipe) -> Model:
    """Returns a recipe's model, its flows not trained: the graph is that of a trained one."""
    extractor, contract = build_extractor(**recipe.reading()), contract_of(recipe)
    if recipe.heads:
        return HeadedModel(contract, extractor, heads_of(recipe, extractor)).eval()
    flow = recipe.flow(extractor.spec.features)
    windows = recipe.windows()
    return DifferNet(contract, recipe.views(), extractor, flow, recipe.score, windows).eval()


def reader_of(recipe: Recipe, cache: Path | None = None) -> FeatureReader:
    """Returns what reads the features of a recipe."""
    extractor = build_extractor(**recipe.reading())
    windows = None if recipe.heads else recipe.windows()
    return FeatureReader(
        extractor,
        contract_of(recipe),
        cache,
        windows=windows,
        heads=heads_of(recipe, extractor),
    )
