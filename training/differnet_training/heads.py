"""A model of several heads: one pass of the extractor, a flow for each head, one joined score.

The `whole` head judges each channel's mean and the logarithm of its standard deviation; the others
judge every window of a grid, each with a Gaussian of its own (as PaDiM has one for each
position: Defard et al. 2020, arXiv:2011.08785) and, where it helps, coupling blocks whose subnets
see the neighbouring windows (as FastFlow: Yu et al. 2021, arXiv:2111.07677).

Divides large inputs into tiles, extracts them as one batch, and joins their feature maps.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from differnet_runtime.model_file.contract import InputContract, Tiles, Views
from differnet_runtime.model_file.metadata import Head, Windows

from .extractors import FeatureExtractor, window_means
from .flow import CouplingBlocks
from .loss import likelihood_score, z2_score


def tiled(maps: Callable[[Tensor], list[Tensor]], x: Tensor, tiles: Tiles | None) -> list[Tensor]:
    """Runs an extractor on tiles and joins their feature maps.

    Each tile covers its share of the input, and half of the overlap beyond it on every inner side;
    of its maps only the share is kept. Where the receptive field of a map's cells extends at most
    half of the overlap beyond the share, the joined map equals the untiled one.

    Args:
        maps: Turns `(N, C, h, w)` into feature maps `(N, C', h / stride, w / stride)`.
        x: `(N, C, H, W)`, normalised.
        tiles: None runs all of it at once.

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
    """Where tiles lie along one side, in pixels.

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
        """Returns which cells of a tile's map are kept."""
        begin = (position * self.share - self.starts[position]) // stride
        return slice(begin, begin + self.share // stride)


def _joined(maps: Tensor, rows: _Spans, columns: _Spans) -> Tensor:
    """Joins the maps of tiles, `(tiles, N, C, h, w)`, into one of the whole input."""
    stride = rows.tile // int(maps.shape[3])
    width = len(columns.starts)
    bands = []
    for r in range(len(rows.starts)):
        cells = [
            maps[r * width + c][:, :, rows.kept(r, stride), columns.kept(c, stride)]
            for c in range(width)
        ]
        bands.append(torch.cat(cells, dim=3))
    return torch.cat(bands, dim=2)


LEAST = 1e-6
"""A head's score is raised to at least this, so that its logarithm stays finite."""

DEVIATION_OFFSET = 0.01
"""Added to a channel's standard deviation, so that a dead channel's logarithm stays finite."""

ONE_VIEW = Views(angles=(0.0,), trained=(0.0,))


class ScoresAndMaps(NamedTuple):
    """A model's scores and heatmaps of N pictures.

    Args:
        scores: `(N,) float32`, joined from the heads' scores.
        heads: `(N, H) float32`, on the joined scale; None for a model without heads.
        heatmaps: `(N, rows, columns) float32`; None for a model without windows.
    """

    scores: Tensor
    heads: Tensor | None
    heatmaps: Tensor | None


class HeadFeatures(nn.Module):
    """Extracts the features of all heads from pictures, side by side.

    Args:
        extractor: Its taps include those of every head.
        heads: In the order of the features.
        contract: The input, which may be tiled.
    """

    def __init__(
        self, extractor: FeatureExtractor, heads: Sequence[Head], contract: InputContract
    ) -> None:
        super().__init__()
        self.extractor, self.heads, self.contract = extractor, tuple(heads), contract
        self.sizes = [feature_count(head) for head in self.heads]
        channels = extractor.channels_by_tap()
        for head in self.heads:
            if head.kept is not None and not head.whole:
                kept = torch.from_numpy(_kept(sum(channels[t] for t in head.taps), head.kept))
                self.register_buffer(f"kept_{head.name}", kept, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Extracts from `(N, height, width, C) uint8`; returns `(N, sum of sizes) float32`."""
        # Cast first: TensorRT can't transpose uint8. The result is channels last in memory.
        x = self.extractor.normalise(images.to(torch.float32).permute(0, 3, 1, 2))
        maps = dict(
            zip(
                self.extractor.taps, tiled(self.extractor.maps, x, self.contract.tiles), strict=True
            )
        )
        return torch.cat([self._of(head, [maps[t] for t in head.taps]) for head in self.heads], 1)

    def part(self, values: np.ndarray, name: str) -> np.ndarray:
        """Returns one head's `(N, windows, D)` of all heads' features `(N, sum of sizes)`."""
        position = next(k for k, head in enumerate(self.heads) if head.name == name)
        begin = sum(self.sizes[:position])
        head = self.heads[position]
        shape = (len(values), head.rows * head.columns, head.flow.features)
        return values[:, begin : begin + self.sizes[position]].reshape(shape)

    def _of(self, head: Head, maps: list[Tensor]) -> Tensor:
        if head.whole:
            return torch.cat([moments(feature_map) for feature_map in maps], dim=1)
        windows = torch.cat([window_means(one, head.rows, head.columns) for one in maps], dim=1)
        if head.kept is not None:
            windows = torch.index_select(windows, 1, self.get_buffer(f"kept_{head.name}"))
        cells = windows.reshape(-1, head.flow.features, head.rows * head.columns)
        return cells.transpose(1, 2).reshape(-1, feature_count(head))


def feature_count(head: Head) -> int:
    """Returns how many feature values of a picture a head judges: windows times features."""
    return head.rows * head.columns * head.flow.features


def moments(feature_map: Tensor) -> Tensor:
    """Returns each channel's mean and log standard deviation: `(N, C, h, w) -> (N, 2 C)`."""
    mean = feature_map.mean(dim=(2, 3))
    centred = feature_map - mean[:, :, None, None]
    deviation = torch.sqrt((centred * centred).mean(dim=(2, 3)) + 1e-12)
    return torch.cat([mean, torch.log(deviation + DEVIATION_OFFSET)], dim=1)


def _kept(channels: int, count: int) -> np.ndarray:
    order = np.random.RandomState(0).permutation(channels)
    return np.sort(order[:count])


class HeadFlow(nn.Module):
    """Turns features into scores: a Gaussian for each window, then coupling blocks over the grid.

    Args:
        head: Its shape, and the constants of its scale.
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

    def whiten(self, x: Tensor) -> Tensor:
        """Whitens `(N, windows * D)` features; returns `(N, D, rows, columns)`."""
        head = self.head
        # As one long row: the engine's audit takes a two-axis constant for a layer's weights.
        centred = (x - self.centre.flatten()).reshape(
            -1, head.rows * head.columns, head.flow.features
        )
        z = torch.matmul(centred.transpose(0, 1), self.matrix).permute(1, 2, 0)
        return z.reshape(-1, head.flow.features, head.rows, head.columns)

    def couple(self, z: Tensor) -> Tensor:
        """Returns the window scores `(N, rows, columns)` of whitened features.

        Twice the negative log-likelihood per feature, up to a constant: the mean of z squared
        where no block changes anything.
        """
        if not len(self.blocks):
            return z2_score(z)
        return likelihood_score(*self.blocks.forward(z, z[:, 0] * 0.0))

    def standardized(self, scores: Tensor) -> Tensor:
        """Returns z = log(s / typical) / spread of scores of any shape; see `metadata.Head`."""
        positive = (F.elu(scores - 1.0) + 1.0).clamp(min=LEAST)
        return torch.log(positive / self.head.typical) / self.head.spread


def greatest(windows: Tensor) -> Tensor:
    """Returns a head's score `(N,)`: the highest of its window scores."""
    return windows.amax(dim=(1, 2))


def log_mean_exp(z: Tensor) -> Tensor:
    """Returns log(mean of exp(z)) over the second axis, `(N, H) -> (N,)`, without overflow."""
    top = z.amax(dim=1, keepdim=True)
    return top[:, 0] + torch.log(torch.exp(z - top).mean(dim=1))


class HeadedModel(nn.Module):
    """An extractor and its heads: what training fits, export traces and evaluation runs.

    Args:
        contract: How frames become input.
        extractor: Frozen.
        heads: Shapes and scales.
    """

    views = ONE_VIEW

    def __init__(
        self, contract: InputContract, extractor: FeatureExtractor, heads: Sequence[Head]
    ) -> None:
        super().__init__()
        self.contract = contract
        self.reader = HeadFeatures(extractor, heads, contract)
        self.head_flows = nn.ModuleList(HeadFlow(head) for head in heads)

    @property
    def extractor(self) -> FeatureExtractor:
        """The frozen extractor."""
        return self.reader.extractor

    @property
    def flows(self) -> tuple[HeadFlow, ...]:
        """The heads' flows."""
        return tuple(flow for flow in self.head_flows if isinstance(flow, HeadFlow))

    @property
    def heads(self) -> tuple[Head, ...]:
        """The heads, with the constants of their scales."""
        return tuple(flow.head for flow in self.flows)

    @property
    def windows(self) -> Windows:
        """The heatmap's grid: that of the finest head."""
        finest = max(self.heads, key=lambda head: head.rows * head.columns)
        return Windows(rows=finest.rows, columns=finest.columns)

    def forward(self, image: Tensor) -> Tensor:
        """Scores `(N, height, width, C) uint8` BGR frames; returns `(N,) float32`."""
        return self.judge(self.features(image)).scores

    def features(self, image: Tensor) -> Tensor:
        """Extracts the features of all heads from frames; returns `(N, D) float32`."""
        return self.reader.forward(image)

    def judge(self, features: Tensor) -> ScoresAndMaps:
        """Returns the scores and heatmaps of `(N, D) float32` features."""
        parts = torch.split(features, self.reader.sizes, dim=1)
        maps = [flow.couple(flow.whiten(x)) for flow, x in zip(self.flows, parts, strict=True)]
        return self.join(maps)

    @property
    def unit(self) -> float:
        """The scale of the joined score's logarithm: the smallest spread of the heads."""
        return min(head.spread for head in self.heads)

    def join(self, maps: Sequence[Tensor]) -> ScoresAndMaps:
        """Joins the heads' window scores, `(N, rows, columns)` each."""
        z = torch.stack(
            [flow.standardized(greatest(one)) for flow, one in zip(self.flows, maps, strict=True)],
            dim=1,
        )
        heads = torch.exp(self.unit * z)
        return ScoresAndMaps(torch.exp(self.unit * log_mean_exp(z)), heads, self._heatmap(maps))

    def _heatmap(self, maps: Sequence[Tensor]) -> Tensor:
        """Returns exp(unit * the window heads' weighted mean of z), on the finest grid.

        A head's weight is the square root of the number of its windows.
        """
        grid = self.windows
        total, weights = None, 0.0
        for flow, one in zip(self.flows, maps, strict=True):
            if not flow.head.whole:
                weight = math.sqrt(flow.head.rows * flow.head.columns)
                z = window_means(flow.standardized(one)[:, None], grid.rows, grid.columns)[:, 0]
                total = weight * z if total is None else total + weight * z
                weights += weight
        assert total is not None
        return torch.exp(self.unit / weights * total)

    @contextmanager
    def ready_to_trace(self, channels: int) -> Iterator[None]:
        """Folds channel order and permutations into weights while the graph is traced."""
        with ExitStack() as stack:
            stack.enter_context(self.extractor.reading(channels))
            for flow in self.flows:
                stack.enter_context(flow.blocks.folded_into(flow))
            yield
