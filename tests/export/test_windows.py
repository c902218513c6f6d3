"""The heatmap in the graph: torch's, in both precisions, and on the pictures that `run` saves."""

import cv2
import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto

from differnet_export.exporter import export_model
from differnet_export.graph import on_cpu, trace
from differnet_export.precision import to_half
from differnet_runtime import Detector
from differnet_runtime.backends.ort import OnnxRuntimeBackend
from differnet_runtime.cli import main
from differnet_runtime.images import list_images, read_image
from differnet_runtime.inspection.preprocess import golden_frames, preprocess
from differnet_training.model import load_model
from tests.export.test_precision import types


@pytest.fixture(scope="module")
def files(windowed, tmp_path_factory):
    folder = tmp_path_factory.mktemp("windowed")
    paths = {}
    for precision in ("fp32", "fp16"):
        paths[precision] = folder / f"{precision}.onnx"
        export_model(windowed.folder, paths[precision], precision=precision)
    return paths


def frames(windowed, metadata):
    pictures = list_images(windowed.source / "test" / "scratch")
    real = [preprocess(read_image(path), metadata.input) for path in pictures[:6]]
    return np.stack([*real, *golden_frames(metadata.input, 2)])


def heatmaps(graph: onnx.ModelProto, batch: np.ndarray) -> np.ndarray:
    with OnnxRuntimeBackend(graph.SerializeToString()) as backend:
        found = backend.infer(batch)
    assert found.heatmaps is not None
    return found.heatmaps


def test_the_graph_gives_torchs_heatmap(windowed, files):
    model, metadata = load_model(windowed.folder)
    graph = onnx.load(files["fp32"])
    score, heatmap = graph.graph.output
    assert (score.name, heatmap.name) == ("score", "heatmap")
    shape = [d.dim_param or d.dim_value for d in heatmap.type.tensor_type.shape.dim]
    assert shape == ["N", metadata.windows.rows, metadata.windows.columns]
    batch = frames(windowed, metadata)
    with torch.inference_mode():
        rows = model.score_features(model.features(torch.from_numpy(batch)))
        expected = model.combine(rows)[1].numpy()
    found = heatmaps(graph, batch)
    assert np.abs(found - expected).max() <= 1e-4 * np.ptp(expected)


def test_averages_of_windows_are_single(files):
    graph = onnx.load(files["fp16"])
    kind = types(graph)
    averages = [node for node in graph.graph.node if node.op_type == "AveragePool"]
    assert averages
    assert {kind[node.output[0]] for node in averages} == {TensorProto.FLOAT}


def test_fp16_keeps_the_heatmap_within_a_hundredth_of_its_range(windowed):
    model, metadata = load_model(windowed.folder)
    graph = trace(model)
    batch = frames(windowed, metadata)
    exact = heatmaps(graph, batch)
    half = heatmaps(on_cpu(to_half(graph)[0]), batch)
    assert np.abs(half - exact).max() > 0
    assert np.abs(half - exact).max() <= 1e-2 * np.ptp(exact)


def test_run_draws_it_on_the_pictures_that_it_saves(windowed, files, tmp_path, capsys):
    source = windowed.source / "test" / "scratch"
    command = ["run", "--model", str(files["fp32"]), "--source", str(source), "--json"]
    assert main([*command, "--save", str(tmp_path), "--backend", "onnxruntime-cpu"]) == 0
    saved = sorted(tmp_path.glob("*.png"))
    assert len(saved) == 12
    coloured = [np.ptp(cv2.imread(str(path))[20:-80].astype(int), axis=2).max() for path in saved]
    assert max(coloured) > 60  # the parts are grey


def test_the_detector_hands_the_heatmap_on(windowed, files):
    picture = read_image(list_images(windowed.source / "test" / "good")[0])
    with Detector(files["fp16"], backend="onnxruntime-cpu") as detector:
        score = detector(picture)
    assert score.heatmap is not None
    assert score.heatmap.shape == (4, 4)
    assert score.value <= score.heatmap.max()
