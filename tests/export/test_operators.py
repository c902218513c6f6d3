"""The operators that the runtime allows are those that export writes, for every kind of model."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from onnx import ModelProto

from benchmarks.models import WINDOWS
from differnet_export.graph import OPSET, trace
from differnet_export.int8 import measure, quantise
from differnet_export.precision import to_half
from differnet_runtime.model_file.contract import InputContract, Tiles, Views
from differnet_runtime.model_file.graph_check import (
    ALLOWED,
    OF_NETWORKS,
    OF_RECIPES,
    OPSETS,
    graph_problem,
)
from differnet_runtime.model_file.metadata import ExtractorSpec
from differnet_training.extractors import FeatureExtractor, build_extractor, empty_extractor
from differnet_training.head_learning import head_shapes
from differnet_training.heads import HeadedModel
from differnet_training.model import DifferNet, Model
from differnet_training.recipes import EDGE, EDGE_GLOBAL, PAPER, PAPER_LITE, Recipe

SQUARE = InputContract(height=64, width=64)


def flowing(recipe: Recipe, contract: InputContract = SQUARE) -> Model:
    """A model of one flow, not trained."""
    extractor = build_extractor(**recipe.reading())
    flow = recipe.flow(extractor.spec.features).model_copy(update={"width": 8})
    model = DifferNet(
        contract, recipe.views(), extractor, flow, recipe.score, windows=recipe.windows()
    )
    return model.eval()


def headed(contract: InputContract) -> Model:
    """The default, not trained."""
    extractor = build_extractor(**EDGE.reading())
    return HeadedModel(contract, extractor, head_shapes(EDGE, extractor, contract)).eval()


def original() -> Model:
    """The paper's model, and what `import` makes: AlexNet, views of any angle."""
    spec = ExtractorSpec(name="alexnet", tap=None, channels=256, weights_sha256="")
    views = Views(angles=(0.0, 22.5, 90.0), trained="any")
    flow = PAPER.flow(spec.features).model_copy(update={"width": 8})
    contract = InputContract(height=256, width=256)
    return DifferNet(contract, views, empty_extractor(spec), flow, PAPER.score).eval()


MODELS: dict[str, Callable[[], Model]] = {
    "edge": lambda: headed(SQUARE),
    "edge in tiles": lambda: headed(
        InputContract(height=256, width=64, tiles=Tiles(rows=2, columns=1))
    ),
    "edge-global": lambda: flowing(EDGE_GLOBAL),
    "edge-global, likelihood": lambda: flowing(
        EDGE_GLOBAL.model_copy(update={"score": "likelihood"})
    ),
    "paper-lite": lambda: flowing(PAPER_LITE),
    "paper and import": original,
    "windows": lambda: flowing(WINDOWS),
}


def operators(graph: ModelProto) -> set[str]:
    return {node.op_type for node in graph.graph.node}


def test_only_what_the_recipes_write_is_listed_for_them_and_all_of_it() -> None:
    written: set[str] = set()
    for name, make in MODELS.items():
        torch.manual_seed(0)
        model = make()
        single = trace(model, "bgrx")
        contract = model.contract.model_copy(update={"pixel": "bgrx"})
        frames = [np.full(contract.shape, 90, np.uint8)]
        in_int8 = quantise(measure(single, frames), 0)
        for graph in (single, to_half(single)[0], to_half(in_int8)[0]):
            assert operators(graph) <= OF_RECIPES, name
            assert graph_problem(graph.SerializeToString(), contract) is None, name
            written |= operators(graph)
    assert written == OF_RECIPES


@pytest.mark.parametrize("name", ["timm:mobilenetv3_small_050", "timm:regnetx_002"])
def test_networks_of_timm_are_allowed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import timm

    create = timm.create_model
    monkeypatch.setattr(
        timm, "create_model", lambda *a, **options: create(*a, **{**options, "pretrained": False})
    )
    extractor: FeatureExtractor = build_extractor(name)
    flow = PAPER_LITE.flow(extractor.spec.features).model_copy(update={"width": 8})
    model = DifferNet(SQUARE, PAPER_LITE.views(), extractor, flow, "z2").eval()
    assert graph_problem(trace(model).SerializeToString(), SQUARE) is None


def test_the_lists_are_apart_and_of_the_exported_opset() -> None:
    assert not OF_RECIPES & OF_NETWORKS
    assert max(OPSETS) == OPSET
    for loop in ("Loop", "If", "Scan", "RandomNormal", "SequenceMap", "StringNormalizer"):
        assert loop not in ALLOWED
