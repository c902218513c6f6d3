"""What the runtime's tests share: a real model of one kilobyte, and pictures."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from differnet_runtime.inspection.preprocess import golden_frames
from differnet_runtime.model_file.contract import InputContract, Views
from differnet_runtime.model_file.file import write_model_file
from differnet_runtime.model_file.metadata import (
    Calibration,
    ExtractorSpec,
    FlowSpec,
    ModelMetadata,
    Provenance,
    Verification,
)

SIZE = 32


def brightness_graph(
    size: int = SIZE, factor: float = 1.0, *, width: int | None = None
) -> onnx.ModelProto:
    """Makes a graph whose score is the mean of the pixels, times `factor`.

    Weights must be finite, so NaN as factor makes the score the root of a negative number.
    """
    nodes = [
        helper.make_node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["pixels"], ["mean"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Mul", ["mean", "factor"], ["score"]),
    ]
    if math.isnan(factor):
        factor = 256.0
        nodes[-1] = helper.make_node("Sub", ["mean", "factor"], ["negative"])
        nodes.append(helper.make_node("Sqrt", ["negative"], ["score"]))
    shape = ["N", size, width or size, 3]
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, shape)
    score = helper.make_tensor_value_info("score", TensorProto.FLOAT, ["N"])
    constant = helper.make_tensor("factor", TensorProto.FLOAT, [], [factor])
    graph = helper.make_graph(nodes, "brightness", [image], [score], [constant])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model)
    return model


@pytest.fixture
def onnx_bytes() -> bytes:
    return brightness_graph().SerializeToString()


@pytest.fixture
def calibration() -> Calibration:
    scores = (1.0, 2.0, 3.0, *(float(score) for score in range(103, 120)))
    return Calibration(
        threshold=118.0,
        false_reject_rate=0.1,
        confidence=0.95,
        bound=0.21,
        good_scores=scores,
        images=20,
        scored_by="torch",
    )


@pytest.fixture
def metadata(calibration: Calibration) -> ModelMetadata:
    return ModelMetadata(
        name="washer",
        input=InputContract(size=SIZE),
        views=Views(angles=(0.0, 90.0), trained=(0.0, 90.0, 180.0, 270.0)),
        extractor=ExtractorSpec(name="alexnet", tap=None, channels=256, weights_sha256="a" * 64),
        flow=FlowSpec(features=768),
        calibration=calibration,
        provenance=Provenance(
            recipe="default",
            seed=7,
            images=40,
            epochs=3,
            data_sha256="b" * 64,
            created="2025-01-02T03:04:05+00:00",
            versions={"torch": "2.6.0"},
        ),
    )


@pytest.fixture
def tiny_model(tmp_path: Path, metadata: ModelMetadata) -> Callable[..., Path]:
    """Returns a function that writes a model scoring brightness; metadata by keyword."""

    def write(name: str = "part.onnx", *, factor: float = 1.0, **changes: object) -> Path:
        path = tmp_path / name
        changed = metadata.replaced(**changes)
        height, width, _ = changed.input.shape
        graph = brightness_graph(height, factor, width=width).SerializeToString()
        write_model_file(path, graph, changed)
        return path

    return write


@pytest.fixture
def sound_model(tiny_model: Callable[..., Path], metadata: ModelMetadata) -> Callable[..., Path]:
    """Returns a function that writes a brightness model with its golden scores."""

    def write(name: str = "part.onnx", *, factor: float = 1.0, golden: float | None = None) -> Path:
        frames = golden_frames(metadata.input).astype(np.float64)
        scale = factor if golden is None else golden
        verification = Verification(
            frames=3,
            greatest_relative_difference=0.0,
            golden_scores=tuple(float(frame.mean()) * scale for frame in frames),
        )
        return tiny_model(name, factor=factor, verification=verification)

    return write


def grained(value: int, size: int, seed: int) -> np.ndarray:
    """Returns `(size, size, 3) uint8`: half the pixels above a mean, half below it by as much."""
    low, high = (0, 1) if value == 0 else (value - 1, min(value + 1, 255))
    grain = np.repeat((low, high), size * size // 2)
    grain = np.random.RandomState(seed).permutation(grain).reshape(size, size, 1)
    return np.repeat(grain, 3, axis=2).astype(np.uint8)


@pytest.fixture
def pictures(tmp_path: Path) -> Callable[..., Path]:
    """Returns a function that writes grey, slightly grained pictures of a brightness each."""

    def write(*brightness: int, folder: str = "pictures", size: int = SIZE) -> Path:
        path = tmp_path / folder
        path.mkdir(exist_ok=True)
        for number, value in enumerate(brightness):
            assert cv2.imwrite(str(path / f"{number:03d}.png"), grained(value, size, number))
        return path

    return write


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """A video of twelve plain frames, each 20 brighter than the one before."""
    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    for number in range(12):
        writer.write(np.full((48, 64, 3), number * 20, np.uint8))
    writer.release()
    return path
