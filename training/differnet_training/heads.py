"""A model of several heads: one pass of the extractor, a flow for each head, one joined score.

The `whole` head scores each channel's mean and the logarithm of its standard deviation. The others
score every window of a grid, each with its own Gaussian (as PaDiM has one for each position: Defard
et al. 2020, arXiv:2011.08785) and coupling blocks whose subnets see the neighbouring windows (as
in FastFlow: Yu et al. 2021, arXiv:2111.07677). Large inputs are divided into tiles.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
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
from differnet_runtime.model_file.contract import InputContract, Tiles, Views
from differnet_runtime.model_file.metadata import Head, Windows

from .extractors import FeatureExtractor, window_means
from .flow import CouplingBlocks, likelihood_score, z2_score
from .gaussian import chunks

LEAST = 1e-6
"""Lower bound of a head's score, which keeps its logarithm finite."""

DEVIATION_OFFSET = 0.01
"""Added to a channel's standard deviation, which keeps the logarithm of a dead channel finite."""

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


class HeadFeatures(nn.Module):
    """Extracts the features of all heads, side by side.

    Args:
        extractor: An extractor whose taps include those of every head.
        heads: The heads, in the order of the features.
        contract: The input, which may be tiled.
        detail: Read the parts of windows that the heatmap shows, in place of whole windows.
    """

    def __init__(
        self,
        extractor: FeatureExtractor,
        heads: Sequence[Head],
        contract: InputContract,
        *,
        detail: bool = False,
    ) -> None:
        super().__init__()
        self.extractor, self.heads, self.contract = extractor, tuple(heads), contract
        self.detail = detail
        self.sizes = [feature_count(head, detail=detail) for head in self.heads]
        self.whole = [head.whole for head in self.heads]
        """Whether each head judges the whole image at once."""
        channels = extractor.channels_by_tap()
        for head, whole in zip(self.heads, self.whole, strict=True):
            if head.kept is not None and not whole:
                kept = torch.from_numpy(_kept(sum(channels[t] for t in head.taps), head.kept))
                self.register_buffer(f"kept_{head.name}", kept, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Extracts from `(N, height, width, C) uint8`; returns `(N, sum of sizes) float32`."""
        # Cast first, as TensorRT can't transpose uint8. The result is channels last in memory.
        x = self.extractor.normalise(images.to(torch.float32).permute(0, 3, 1, 2))
        maps = dict(
            zip(
                self.extractor.taps, tiled(self.extractor.maps, x, self.contract.tiles), strict=True
            )
        )
        found = []
        for head, whole in zip(self.heads, self.whole, strict=True):
            read = [maps[tap] for tap in head.taps]
            found.append(
                torch.cat([moments(one) for one in read], 1) if whole else self._windows(head, read)
            )
        return torch.cat(found, dim=1)

    def part(self, values: np.ndarray, name: str) -> np.ndarray:
        """Selects one head's features `(N, windows, D)` from all heads' `(N, sum of sizes)`."""
        position = next(k for k, head in enumerate(self.heads) if head.name == name)
        sizes, features = self.sizes_of(values.shape[1]), self.heads[position].flow.features
        begin = sum(sizes[:position])
        chosen = values[:, begin : begin + sizes[position]]
        return chosen.reshape(len(values), -1, features)

    def sizes_of(self, width: int) -> list[int]:
        """Returns each head's size in features of this width, which may lack the detail."""
        plain = [feature_count(head) for head in self.heads]
        return plain if width == sum(plain) else self.sizes

    def _windows(self, head: Head, maps: list[Tensor]) -> Tensor:
        side, features = head.detail if self.detail else 1, head.flow.features
        means = [window_means(one, side * head.rows, side * head.columns) for one in maps]
        windows = torch.cat(means, dim=1)
        if head.kept is not None:
            windows = torch.index_select(windows, 1, self.get_buffer(f"kept_{head.name}"))
        if side == 1:
            cells = windows.reshape(-1, features, head.rows * head.columns).transpose(1, 2)
        else:
            parts = windows.reshape(-1, features, head.rows, side, head.columns, side)
            cells = parts.permute(0, 3, 5, 2, 4, 1)
        return cells.reshape(-1, feature_count(head, detail=self.detail))


def feature_count(head: Head, *, detail: bool = False) -> int:
    """Returns the number of values of an image that a head scores: windows times features.

    With `detail`, that of the windows' parts.
    """
    windows = head.rows * head.columns * head.flow.features
    return windows * head.detail**2 if detail else windows


def moments(feature_map: Tensor) -> Tensor:
    """Returns each channel's mean and log standard deviation: `(N, C, h, w) -> (N, 2 C)`."""
    mean = feature_map.mean(dim=(2, 3))
    centred = feature_map - mean[:, :, None, None]
    deviation = torch.sqrt((centred * centred).mean(dim=(2, 3)) + 1e-12)
    return torch.cat([mean, torch.log(deviation + DEVIATION_OFFSET)], dim=1)


def _kept(channels: int, count: int) -> np.ndarray:
    return np.sort(np.random.RandomState(0).permutation(channels)[:count])


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
        """Whitens `(N, windows * D)` features; returns `(N, D, rows, columns)`.

        Of features by parts, `(N, P * windows * D)`, each of the P parts is whitened as a window,
        `(N * P, D, rows, columns)`. Whitening is affine: their mean is the whitened window.
        """
        head = self.head
        if x.shape[1] != self.centre.numel():
            x = x.reshape(-1, self.centre.numel())
        # As one row: the engine's audit takes a two-axis constant for a layer's weights.
        centred = (x - self.centre.flatten()).reshape(
            -1, head.rows * head.columns, head.flow.features
        )
        z = torch.matmul(centred.transpose(0, 1), self.matrix).permute(1, 2, 0)
        return z.reshape(-1, head.flow.features, head.rows, head.columns)

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

    def divided(self, z: Tensor, parts: Tensor) -> Tensor:
        """Divides each window's z among its parts, whose mean it remains.

        A part is as far above its window as its own z is above the mean of the window's parts.

        Args:
            z: `(N, 1, rows, columns)` of the windows.
            parts: `(N, P, rows, columns)`, scores of each window's parts, row by row.

        Returns:
            `(N, 1, side * rows, side * columns)` for P = side * side.
        """
        own, side = self.standardized(parts), self.head.detail
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
        self.reader = HeadFeatures(extractor, heads, contract, detail=True)
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

        Features that were read without detail give the same scores, and heatmaps in which a window
        has one value.
        """
        width = int(features.shape[1])
        maps: list[Tensor] = []
        details: list[Tensor | None] = []
        columns = torch.split(features, self.reader.sizes_of(width), dim=1)
        for flow, x in zip(self.flows, columns, strict=True):
            z, parts = flow.whiten(x), int(x.shape[1]) // flow.centre.numel()
            of_parts = None
            if parts > 1:
                of_parts = z2_score(z).reshape(-1, parts, *flow.grid)
                z = z.reshape(-1, parts, flow.head.flow.features, *flow.grid).mean(dim=1)
            maps.append(flow.couple(z))
            details.append(of_parts)
        return self.join(maps, details)

    def judge_features(self, features: NDArray[np.float32]) -> ModelScores:
        """Scores features that were read before, `(N, D)` or `(N, 1, D)`, in chunks."""
        with torch.inference_mode():
            found = [
                self.judge(torch.from_numpy(part.reshape(-1, part.shape[-1]).copy()))
                for part in chunks(features)
            ]
        return ModelScores(*(torch.cat(tensors).numpy() for tensors in zip(*found, strict=True)))

    def join(
        self, maps: Sequence[Tensor], details: Sequence[Tensor | None] | None = None
    ) -> ScoresAndMaps:
        """Joins the heads' window scores.

        With z_h of a head's highest window score and u the smallest spread, the joined score is
        exp(u * log(mean over h of exp(z_h))).

        Args:
            maps: `(N, rows, columns)` of each head.
            details: `(N, P, rows, columns)`, scores of the P parts of each window, for the heatmap
                alone; None for heads without.
        """
        z = torch.stack(
            [flow.standardized(greatest(one)) for flow, one in zip(self.flows, maps, strict=True)],
            dim=1,
        )
        heads = torch.exp(self.unit * z)
        heatmap = self._heatmap(maps, details or [None] * len(maps))
        return ScoresAndMaps(torch.exp(self.unit * log_mean_exp(z)), heads, heatmap)

    def _heatmap(self, maps: Sequence[Tensor], details: Sequence[Tensor | None]) -> Tensor:
        """Returns exp(unit * weighted mean of the window heads' z), on the heatmap's grid.

        A head's weight is the square root of the number of its windows.
        """
        grid, weighted = self.windows, []
        for flow, one, parts, weight in zip(self.flows, maps, details, self._weights, strict=True):
            if weight:
                z = flow.standardized(one)[:, None]
                if parts is not None:
                    z = flow.divided(z, parts)
                z = window_means(z, grid.rows, grid.columns)[:, 0]
                weighted.append(weight * z)
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


def tiled(maps: Callable[[Tensor], list[Tensor]], x: Tensor, tiles: Tiles | None) -> list[Tensor]:
    """Runs an extractor on tiles, as one batch, and joins their feature maps.

    Each tile covers its share of the input and half of the overlap beyond it on every inner side;
    only the share of its maps is kept. If the receptive field of a map's cells extends at most
    half of the overlap beyond the share, the joined map equals the untiled one.

    Args:
        maps: Maps `(N, C, h, w)` to feature maps `(N, C', h / stride, w / stride)`.
        x: `(N, C, H, W)`, normalised.
        tiles: None runs the whole input at once.

    Returns:
        The maps of the whole input.
    """
    if tiles is None or tiles.rows * tiles.columns == 1:
        return maps(x)
    rows = _Spans.of(int(x.shape[2]), tiles.rows, tiles.overlap)
    columns = _Spans.of(int(x.shape[3]), tiles.columns, tiles.overlap)
    batch = torch.cat(
        [
            x[:, :, top : top + rows.tile, left : left + columns.tile]
            for top in rows.starts
            for left in columns.starts
        ]
    )
    count = tiles.rows * tiles.columns
    return [
        _joined(one.reshape(count, -1, *(int(side) for side in one.shape[1:])), rows, columns)
        for one in maps(batch)
    ]


@dataclass(frozen=True)
class _Spans:
    """Places of tiles along one side, in pixels.

    Args:
        tile: Length of a tile.
        share: Length of the part of a tile that is kept.
        starts: Where each tile starts in the input.
    """

    tile: int
    share: int
    starts: tuple[int, ...]

    @classmethod
    def of(cls, length: int, parts: int, overlap: int) -> _Spans:
        share = length // parts
        tile = min(length, share + overlap)
        starts = (min(max(k * share - overlap // 2, 0), length - tile) for k in range(parts))
        return cls(tile, share, tuple(starts))

    def kept(self, position: int, stride: int) -> slice:
        """Returns the cells of a tile's map that are kept."""
        begin = (position * self.share - self.starts[position]) // stride
        return slice(begin, begin + self.share // stride)


def _joined(maps: Tensor, rows: _Spans, columns: _Spans) -> Tensor:
    """Joins the maps of tiles, `(tiles, N, C, h, w)`, into one of the whole input."""
    stride, width = rows.tile // int(maps.shape[3]), len(columns.starts)
    bands = [
        [
            maps[r * width + c][:, :, rows.kept(r, stride), columns.kept(c, stride)]
            for c in range(width)
        ]
        for r in range(len(rows.starts))
    ]
    return torch.cat([torch.cat(cells, dim=3) for cells in bands], dim=2)
