"""DifferNet as one module, which export traces, and a trained model on disk.

    model/
      model.json              the metadata that the exported file will carry
      weights.safetensors     extractor and flow
      baselines.safetensors   Gaussian and nearest neighbours on the same features
      training.json           training curves, and the images of each split with their hashes

`model.json` is written last and holds the hash of the weights: a folder with it holds a whole
model.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from differnet_runtime.errors import ModelFileError, TrainingError, ViewsError
from differnet_runtime.files import write_bytes
from differnet_runtime.inspection.preprocess import rotation_index
from differnet_runtime.model_file.contract import InputContract, Views, check_views
from differnet_runtime.model_file.file import parse_metadata
from differnet_runtime.model_file.metadata import FlowSpec, ModelMetadata, ScoreKind, Windows

from .extractors import FeatureExtractor, empty_extractor
from .flow import SCORES, NormalizingFlow
from .gaussian import chunks
from .heads import HeadedModel, ModelScores, ScoresAndMaps


class Rotations(nn.Module):
    """Rotates a batch into every view: `(N, C, H, W) -> (V * N, C, H, W)`, views outermost.

    Right angles are flips and transpositions. Other angles gather pixels by a constant index
    (`preprocess.rotation_index`), so that graph and training see the same pixels.

    Args:
        angles: Angles in degrees, counter-clockwise.
        shape: Height and width in pixels; equal for angles other than 0 and 180.
    """

    def __init__(self, angles: tuple[float, ...], shape: tuple[int, int]) -> None:
        super().__init__()
        self.angles = angles
        self.shape = shape
        for position, angle in enumerate(angles):
            if angle % 90 != 0:
                index = torch.from_numpy(rotation_index(shape[0], angle, shape[1]))
                self.register_buffer(f"index_{position}", index, persistent=False)

    def forward(self, x: Tensor, black: Tensor) -> Tensor:
        """Returns all views of the batch; pixels from outside are `black`, `(1, C, 1, 1)`."""
        if self.angles == (0.0,):
            return x
        return torch.cat([self._view(x, black, k, angle) for k, angle in enumerate(self.angles)])

    def _view(self, x: Tensor, black: Tensor, position: int, angle: float) -> Tensor:
        if angle % 90 != 0:
            flat = x.flatten(2)
            # A tensor of zeros would make the traced graph compute its shape.
            padded = torch.cat([flat, flat[:, :, :1] * 0.0 + black[:, :, :, 0]], dim=2)
            index = self.get_buffer(f"index_{position}")
            return torch.index_select(padded, 2, index).reshape(-1, int(x.shape[1]), *self.shape)
        return quarter_turns(x, int(angle // 90))


def quarter_turns(x: Tensor, turns: int) -> Tensor:
    """Rotates `(N, C, H, W)` by a number of right angles, counter-clockwise."""
    turns %= 4
    if turns == 1:
        return x.transpose(2, 3).flip(2)
    if turns == 2:
        return x.flip(2, 3)
    return x.transpose(2, 3).flip(3) if turns == 3 else x


def neighbourhood_means(maps: Tensor) -> Tensor:
    """Averages each window with its (up to eight) neighbours: `(N, 1, h, w)` both."""
    return F.avg_pool2d(maps, 3, stride=1, padding=1, count_include_pad=False)


def image_scores(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Combines scores of views `(N, V)`, or of windows `(N, V, n * n)`, to scores of images `(N,)`.

    Views are averaged; of windows, the greatest mean of 3 x 3 neighbours counts.
    """
    means = np.asarray(rows.mean(axis=1))
    if means.ndim == 1:
        return means
    n = math.isqrt(means.shape[1])
    maps = torch.from_numpy(means.reshape(-1, 1, n, n))
    return neighbourhood_means(maps).flatten(1).amax(dim=1).numpy()


class DifferNet(nn.Module):
    """A model with one flow: scores frames as at the camera.

    Args:
        contract: How frames become input.
        views: Rotations that the score is averaged over.
        extractor: Frozen; stays in eval mode.
        flow: Shape of the flow.
        score: `z2` (the original) or `likelihood`.
        windows: Judge each window of a grid; None judges the whole image, as the original does.

    Raises:
        ViewsError: Angles that training never saw, or windows with other than right angles.

    Example:
        >>> model, metadata = load_model(Path("model"))
        >>> scores = model(torch.zeros(2, 448, 448, 3, dtype=torch.uint8))
    """

    def __init__(
        self,
        contract: InputContract,
        views: Views,
        extractor: FeatureExtractor,
        flow: FlowSpec,
        score: ScoreKind = "z2",
        windows: Windows | None = None,
    ) -> None:
        super().__init__()
        check_views(views, contract)
        if windows is not None and any(angle % 90 for angle in views.angles):
            raise ViewsError(
                "windows of turned views lie on each other only at right angles. Use --rotation "
                "none or right-angles, or --pooling global."
            )
        self.contract = contract
        self.views = views
        self.score = score
        self.windows = windows
        self.rotations = Rotations(views.angles, (contract.height, contract.width))
        self.extractor = extractor
        self.flow = NormalizingFlow(flow)

    def forward(self, image: Tensor) -> Tensor:
        """Scores `(N, height, width, 3) uint8` BGR frames; returns `(N,) float32`."""
        return self.combine(self.score_features(self.features(image)))[0]

    def features(self, image: Tensor) -> Tensor:
        """Extracts features; the rows are ordered by view, then image, then window.

        Frames are normalised once, before they are rotated, which gives the same values.

        Args:
            image: `(N, height, width, C) uint8`.

        Returns:
            `(V * N, D) float32`, or `(V * N * windows, D)` with windows.
        """
        x = self.extractor.normalise(image.to(torch.float32).permute(0, 3, 1, 2))
        x = self.extractor.pooled(self.rotations(x, self.extractor.black), self.windows)
        if self.windows is not None and self.views.angles != (0.0,):
            x = self._turned_back(x, self.windows)
        return x.reshape(-1, self.extractor.spec.features)

    def _turned_back(self, x: Tensor, grid: Windows) -> Tensor:
        """Turns each view's windows back to the frame, `(V * N, windows, D)` both."""
        features, angles = self.extractor.spec.features, self.views.angles
        grids = x.transpose(1, 2).reshape(-1, features, grid.rows, grid.columns)
        turned = [
            quarter_turns(view, -int(angle // 90))
            for view, angle in zip(torch.chunk(grids, len(angles)), angles, strict=True)
        ]
        return torch.cat(turned).reshape(-1, features, grid.count).transpose(1, 2)

    def combine(self, scores: Tensor) -> tuple[Tensor, Tensor | None]:
        """Averages scores over the views; takes the greatest mean of 3 x 3 windows, if any.

        Args:
            scores: One for each row of `features`.

        Returns:
            Scores `(N,)`, and heatmaps `(N, rows, columns)` or None without windows.
        """
        views = len(self.views.angles)
        if self.windows is None:
            return (scores if views == 1 else scores.reshape(views, -1).mean(dim=0)), None
        rows, columns = self.windows.rows, self.windows.columns
        heatmaps = scores.reshape(views, -1, rows, columns)
        heatmaps = heatmaps.mean(dim=0) if views > 1 else heatmaps.reshape(-1, rows, columns)
        return neighbourhood_means(heatmaps.unsqueeze(1)).flatten(1).amax(dim=1), heatmaps

    def judge(self, features: Tensor) -> ScoresAndMaps:
        """Scores the rows of `features`."""
        scores, heatmaps = self.combine(self.score_features(features))
        return ScoresAndMaps(scores, None, heatmaps)

    def judge_features(self, features: NDArray[np.float32]) -> ModelScores:
        """Scores features that were read before, `(N, V, ..., D)`, in chunks."""
        with torch.inference_mode():
            found = [
                self.score_features(torch.from_numpy(part.reshape(-1, part.shape[-1]).copy()))
                for part in chunks(features)
            ]
        rows = torch.cat(found).double().numpy().reshape(features.shape[:-1])
        heatmaps = None
        if (grid := self.windows) is not None:
            heatmaps = rows.mean(axis=1).reshape(-1, grid.rows, grid.columns).astype(np.float32)
        return ModelScores(image_scores(rows).astype(np.float32), None, heatmaps)

    @contextmanager
    def ready_to_trace(self, channels: int) -> Iterator[None]:
        """Folds the channel order and the permutation into weights, for tracing."""
        with self.extractor.reading(channels), self.flow.folded():
            yield

    def score_features(self, features: Tensor) -> Tensor:
        """Scores feature vectors: `(N, D) float32 -> (N,) float32`."""
        z = self.flow.whiten(features)[0]
        z, log_det = self.flow.blocks.forward(z, z.new_zeros(()))
        return SCORES[self.score](z, log_det)


Model = DifferNet | HeadedModel

MODEL_JSON, WEIGHTS = "model.json", "weights.safetensors"
TRAINING_JSON, BASELINES = "training.json", "baselines.safetensors"


def save_model(folder: Path, model: Model, metadata: ModelMetadata) -> ModelMetadata:
    """Writes the weights, then the metadata with their hash; returns the metadata as written.

    Raises:
        OutputError: The folder can't be written.
    """
    weights = save({key: value.contiguous() for key, value in model.state_dict().items()})
    write_bytes(folder / WEIGHTS, weights)
    metadata = metadata.replaced(weights_sha256=hashlib.sha256(weights).hexdigest())
    write_bytes(folder / MODEL_JSON, metadata.model_dump_json(indent=2).encode())
    return metadata


def load_model(folder: Path) -> tuple[Model, ModelMetadata]:
    """Reads a trained model in eval mode, and its metadata.

    Raises:
        ModelFileError: There is no whole model in the folder, or it is damaged.
    """
    metadata = load_metadata(folder)
    weights = _read(folder / WEIGHTS)
    actual = hashlib.sha256(weights).hexdigest()
    if actual != metadata.weights_sha256:
        raise ModelFileError(
            f"{folder / WEIGHTS} is damaged: its hash is {actual[:16]}..., but {MODEL_JSON} says "
            f"{str(metadata.weights_sha256)[:16]}... Train the model again, or copy it again."
        )
    model = empty_model(metadata)
    try:
        model.load_state_dict(load(weights))
    except (RuntimeError, SafetensorError) as error:
        raise ModelFileError(f"{folder / WEIGHTS} does not fit {MODEL_JSON}: {error}") from error
    return model.eval(), metadata


def empty_model(metadata: ModelMetadata) -> Model:
    """Builds the model that metadata describes, with random weights."""
    extractor = empty_extractor(metadata.extractor)
    if metadata.flow is None:
        return HeadedModel(metadata.input, extractor, metadata.heads)
    return DifferNet(
        metadata.input,
        metadata.views,
        extractor,
        metadata.flow,
        metadata.score,
        metadata.windows,
    )


def load_metadata(folder: Path) -> ModelMetadata:
    """Reads `model.json` alone.

    Raises:
        ModelFileError: There is no whole model in the folder.
    """
    path = folder / MODEL_JSON
    if not path.is_file():
        raise ModelFileError(
            f"{folder} holds no trained model ({MODEL_JSON} is missing). Train one with "
            f"`differnet train --data FOLDER -o {folder}`; a run that was cut short goes on with "
            "the same command."
        )
    return parse_metadata(_read(path).decode(errors="replace"), str(path))


def write_training(folder: Path, record: dict[str, Any]) -> None:
    """Writes `training.json`."""
    write_bytes(folder / TRAINING_JSON, json.dumps(record, indent=1).encode())


def read_training(folder: Path) -> dict[str, Any]:
    """Reads `training.json`; empty for an imported checkpoint.

    Raises:
        TrainingError: It is damaged.
    """
    path = folder / TRAINING_JSON
    if not path.is_file():
        return {}
    try:
        record: dict[str, Any] = json.loads(path.read_bytes())
    except ValueError as error:
        raise TrainingError(f"{path} is damaged ({error}); train the model again") from error
    return record


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ModelFileError(f"{path}: {error.strerror or error}") from error
