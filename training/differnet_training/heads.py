"""A model of several heads: one pass of the extractor, a flow for each head, one joined score.

The `whole` head scores each channel's mean and the logarithm of its standard deviation. The others
score every window of a grid, each with its own Gaussian (as PaDiM has one for each position: Defard
et al. 2020, arXiv:2011.08785) and coupling blocks whose subnets see the neighbouring windows (as
in FastFlow: Yu et al. 2021, arXiv:2111.07677).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import reduce
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from differnet_runtime.errors import DataError
from differnet_runtime.model_file.contract import InputContract, Views
from differnet_runtime.model_file.metadata import Head, Windows

from .extractors import FeatureExtractor, window_means
from .flow import CouplingBlocks, likelihood_score, z2_score
from .gaussian import chunks
from .head_features import HeadFeatures

LEAST = 1e-6
"""Lower bound of a head's score, which keeps its logarithm finite."""

ONE_VIEW = Views(angles=(0.0,), trained=(0.0,))


class ScoresAndMaps(NamedTuple):
    """A model's scores and heatmaps of N images.

    Args:
        scores: `(N,) float32`, joined from the heads' scores.
        heads: `(N, H) float32`, on the joined scale; None for a model without heads.
        heatmaps: `(N, rows, columns) float32`; None for a model without windows.
    """

    scores: Tensor
    heads: Tensor | None
    heatmaps: Tensor | None


@dataclass(frozen=True)
class ModelScores:
    """A model's scores and heatmaps of N images, as arrays.

    Args:
        scores: `(N,) float32`.
        heads: `(N, H) float32`, the heads' scores; None for a model without heads.
        heatmaps: `(N, rows, columns) float32`; None for a model without windows.
    """

    scores: NDArray[np.float32]
    heads: NDArray[np.float32] | None
    heatmaps: NDArray[np.float32] | None


class HeadFlow(nn.Module):
    """Maps features to scores: a Gaussian for each window, then coupling blocks over the grid.

    Args:
        head: Shape of the head, and the constants of its scale.
    """

    centre: Tensor
    matrix: Tensor

    def __init__(self, head: Head) -> None:
        super().__init__()
        self.head = head
        windows, features = head.rows * head.columns, head.flow.features
        eye = torch.eye(features).expand(windows, features, features).clone()
        self.register_buffer("centre", torch.zeros(windows, features))
        self.register_buffer("matrix", eye)
        self.blocks = CouplingBlocks(head.flow)
        self.grid = head.rows, head.columns

    def whiten(self, x: Tensor) -> Tensor:
        """Whitens `(N, windows * D)` features; returns `(N, D, rows, columns)`."""
        return self.on_grid(self.whiten_subwindows(x, 1)[:, :, 0])

    def whiten_subwindows(self, x: Tensor, count: int) -> Tensor:
        """Whitens each subwindow as if it were its whole window.

        Whitening is affine, so the mean over a window's subwindows is the whitened window.

        Args:
            x: `(N, windows * P * D)` features by subwindows.
            count: P, subwindows in a window; 1 for features of whole windows.

        Returns:
            `(windows, N, P, D)`.
        """
        windows, features = self.grid[0] * self.grid[1], self.head.flow.features
        # As one row: the engine's audit takes a constant of more than one axis for weights.
        centre = self.centre.repeat_interleave(count, 0).flatten()
        rows = (x - centre).reshape(-1, windows, count, features).transpose(0, 1)
        z = torch.matmul(rows.reshape(windows, -1, features), self.matrix)
        return z.reshape(windows, -1, count, features)

    def on_grid(self, z: Tensor) -> Tensor:
        """Returns `(windows, N, D)` as `(N, D, rows, columns)`."""
        return z.permute(1, 2, 0).reshape(-1, int(z.shape[2]), *self.grid)

    def couple(self, z: Tensor) -> Tensor:
        """Returns the window scores `(N, rows, columns)` of whitened features.

        They are `flow.likelihood_score`, which without coupling blocks is the mean of z squared.
        """
        if not len(self.blocks):
            return z2_score(z)
        return likelihood_score(*self.blocks.forward(z, z[:, 0] * 0.0))

    def standardized(self, scores: Tensor) -> Tensor:
        """Standardizes scores of any shape: z = log(s / typical) / spread; see `metadata.Head`."""
        positive = (F.elu(scores - 1.0) + 1.0).clamp(min=LEAST)
        return torch.log(positive / self.head.typical) / self.head.spread

    def divided(self, z: Tensor, subwindows: Tensor) -> Tensor:
        """Returns a z for each subwindow; their mean in a window stays the window's z.

        A subwindow's z differs from its window's as its own z differs from the mean over the
        window's subwindows.

        Args:
            z: `(N, 1, rows, columns)` of the windows.
            subwindows: `(N, P, rows, columns)`, scores of each window's subwindows, row by row.

        Returns:
            `(N, 1, side * rows, side * columns)` for P = side * side.
        """
        own, side = self.standardized(subwindows), self.head.detail
        fine = (z + own - own.mean(dim=1, keepdim=True)).reshape(-1, side, side, *self.grid)
        rows, columns = self.grid
        return fine.permute(0, 3, 1, 4, 2).reshape(-1, 1, side * rows, side * columns)

    def folded(self) -> AbstractContextManager[None]:
        """Merges the first block's permutation into the whitening; see `CouplingBlocks`."""
        return self.blocks.folded_into(self)


def greatest(windows: Tensor) -> Tensor:
    """Returns a head's score `(N,)`: the highest of its window scores."""
    return windows.amax(dim=(1, 2))


def log_mean_exp(z: Tensor) -> Tensor:
    """Returns log(mean of exp(z)) over the second axis, `(N, H) -> (N,)`, without overflow."""
    top = z.amax(dim=1, keepdim=True)
    return top[:, 0] + torch.log(torch.exp(z - top).mean(dim=1))


class HeadedModel(nn.Module):
    """A model of an extractor and several heads: scores frames as at the camera.

    Args:
        contract: How frames become input.
        extractor: The frozen extractor, in eval mode.
        heads: Shapes and scales of the heads.

    Example:
        >>> model, metadata = load_model(Path("model"))
        >>> scores = model(torch.zeros(2, 256, 256, 3, dtype=torch.uint8))
    """

    views = ONE_VIEW

    def __init__(
        self, contract: InputContract, extractor: FeatureExtractor, heads: Sequence[Head]
    ) -> None:
        super().__init__()
        self.contract = contract
        self.reader = HeadFeatures(extractor, heads, contract, subwindows=True)
        self.heads = tuple(heads)
        self.flows = tuple(HeadFlow(head) for head in heads)
        self.head_flows = nn.ModuleList(self.flows)
        finest = max(heads, key=lambda head: head.rows * head.columns)
        side = finest.detail
        self.windows = Windows(rows=side * finest.rows, columns=side * finest.columns)
        """The heatmap's grid: that of the finest head, each window divided by its detail."""
        self.unit = min(head.spread for head in heads)
        """The scale of the joined score's logarithm: the smallest spread of the heads."""
        self._weights = [
            0.0 if whole else math.sqrt(head.rows * head.columns)
            for head, whole in zip(self.heads, self.reader.whole, strict=True)
        ]

    @property
    def extractor(self) -> FeatureExtractor:
        """The frozen extractor."""
        return self.reader.extractor

    def forward(self, image: Tensor) -> Tensor:
        """Scores `(N, height, width, C) uint8` BGR frames; returns `(N,) float32`."""
        return self.judge(self.features(image)).scores

    def features(self, image: Tensor) -> Tensor:
        """Extracts the features of all heads from frames; returns `(N, D) float32`."""
        return self.reader.forward(image)

    def judge(self, features: Tensor) -> ScoresAndMaps:
        """Returns the scores and heatmaps of `(N, D) float32` features.

        Features of whole windows give the same scores, and heatmaps in which all subwindows of a
        window have its value.
        """
        maps: list[Tensor] = []
        subwindows: list[Tensor | None] = []
        sizes = self.reader.sizes_of(int(features.shape[1]))
        for flow, x in zip(self.flows, torch.split(features, sizes, dim=1), strict=True):
            count = int(x.shape[1]) // flow.centre.numel()
            z = flow.whiten_subwindows(x, count)
            window = z[:, :, 0] if count == 1 else z.mean(dim=2)
            maps.append(flow.couple(flow.on_grid(window)))
            # As `z2_score`: by the Gaussian alone.
            subwindows.append(flow.on_grid((z * z).mean(dim=3)) if count > 1 else None)
        return self.join(maps, subwindows)

    def judge_features(self, features: NDArray[np.float32]) -> ModelScores:
        """Scores features that were read before, `(N, D)` or `(N, 1, D)`, in chunks."""
        with torch.inference_mode():
            found = [
                self.judge(torch.from_numpy(part.reshape(-1, part.shape[-1]).copy()))
                for part in chunks(features)
            ]
        return ModelScores(*(torch.cat(tensors).numpy() for tensors in zip(*found, strict=True)))

    def join(
        self, maps: Sequence[Tensor], subwindows: Sequence[Tensor | None] | None = None
    ) -> ScoresAndMaps:
        """Joins the heads' window scores.

        With z_h of a head's highest window score and u the smallest spread, the joined score is
        exp(u * log(mean over h of exp(z_h))).

        Args:
            maps: `(N, rows, columns)` of each head.
            subwindows: `(N, P, rows, columns)`, scores of each window's P subwindows by the
                Gaussian alone, for the heatmap; None for heads without.
        """
        standardized = [flow.standardized(one) for flow, one in zip(self.flows, maps, strict=True)]
        z = torch.stack([greatest(one) for one in standardized], dim=1)
        heads = torch.exp(self.unit * z)
        heatmap = self._heatmap(standardized, subwindows or [None] * len(maps))
        return ScoresAndMaps(torch.exp(self.unit * log_mean_exp(z)), heads, heatmap)

    def _heatmap(
        self, standardized: Sequence[Tensor], subwindows: Sequence[Tensor | None]
    ) -> Tensor:
        """Returns exp(unit * weighted mean of the window heads' z), on the heatmap's grid.

        A head's weight is the square root of the number of its windows.
        """
        grid, weighted = self.windows, []
        heads = zip(self.flows, standardized, subwindows, self._weights, strict=True)
        for flow, z, scores, weight in heads:
            if weight:
                fine = z[:, None]
                if scores is not None:
                    fine = flow.divided(fine, scores)
                weighted.append(weight * window_means(fine, grid.rows, grid.columns)[:, 0])
        return torch.exp(self.unit / sum(self._weights) * reduce(torch.add, weighted))

    @contextmanager
    def ready_to_trace(self, channels: int) -> Iterator[None]:
        """Folds the channel order and the permutations into weights, for tracing."""
        with ExitStack() as stack:
            stack.enter_context(self.extractor.reading(channels))
            for flow in self.flows:
                stack.enter_context(flow.folded())
            yield


def set_scale(windows: Windows, heatmaps: NDArray[np.float32], threshold: float) -> Windows:
    """Sets the fixed colour scale of heatmaps; see `metadata.Windows`.

    Args:
        windows: The grid, without a scale.
        heatmaps: `(N, rows, columns)`, of normal images.
        threshold: The threshold, halfway between low and high.
    """
    low = float(np.median(heatmaps))
    return windows.model_copy(update={"low": low, "high": 2 * threshold - low})


class Scale(NamedTuple):
    """A head's `typical` and `spread`; see `metadata.Head`."""

    typical: float
    spread: float


def scale_of(unseen: NDArray[np.float64], handicap: float) -> Scale:
    """Returns a head's scale, computed from scores of normal images that it had not seen.

    Args:
        unseen: `(N,)` scores.
        handicap: Of the head, as in `recipes.HeadRecipe`.

    Raises:
        DataError: The scores do not differ at all.
    """
    logs = np.log(positive(unseen))
    spread = float(logs.std(ddof=1))
    if spread < 1e-9:
        raise DataError(
            "the good pictures give the same score, as if all were the same picture. Take "
            "pictures of different parts."
        )
    return Scale(float(np.exp(logs.mean() + handicap * spread)), spread)


def joined_scores(
    unseen: Sequence[NDArray[np.float64]], scales: Sequence[Scale]
) -> NDArray[np.float64]:
    """Returns the heads' joined scores `(N,)`, computed as in `HeadedModel.join`."""
    z = np.stack(
        [
            np.log(positive(scores) / scale.typical) / scale.spread
            for scores, scale in zip(unseen, scales, strict=True)
        ]
    )
    top = z.max(axis=0)
    joined = top + np.log(np.exp(z - top).mean(axis=0))
    return np.asarray(np.exp(min(scale.spread for scale in scales) * joined))


def positive(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Raises scores above 0, as `HeadFlow.standardized` does, so that they have logarithms."""
    return np.maximum(np.where(scores > 1.0, scores, np.exp(np.minimum(scores, 1.0) - 1.0)), LEAST)
