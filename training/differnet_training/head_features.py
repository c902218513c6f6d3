"""The features that heads judge: one pass of the extractor, on tiles where the input is large.

The `whole` head gets each channel's mean and the logarithm of its standard deviation. The others
get the means of their windows, or of the subwindows that the heatmap shows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from differnet_runtime.model_file.contract import InputContract, Tiles
from differnet_runtime.model_file.metadata import Head

from .extractors import FeatureExtractor, window_means

DEVIATION_OFFSET = 0.01
"""Added to a channel's standard deviation, which keeps the logarithm of a dead channel finite."""


class HeadFeatures(nn.Module):
    """Extracts the features of all heads, side by side.

    Args:
        extractor: An extractor whose taps include those of every head.
        heads: The heads, in the order of the features.
        contract: The input, which may be tiled.
        subwindows: Read the subwindows that the heatmap shows, in place of whole windows.
    """

    def __init__(
        self,
        extractor: FeatureExtractor,
        heads: Sequence[Head],
        contract: InputContract,
        *,
        subwindows: bool = False,
    ) -> None:
        super().__init__()
        self.extractor, self.heads, self.contract = extractor, tuple(heads), contract
        self.subwindows = subwindows
        self.sizes = [feature_count(head, subwindows=subwindows) for head in self.heads]
        self.whole = [head.whole for head in self.heads]
        """Whether each head judges the whole image at once."""
        channels = extractor.channels_by_tap()
        for head, whole in zip(self.heads, self.whole, strict=True):
            if head.kept is not None and not whole:
                kept = _kept([channels[tap] for tap in head.taps], head.kept)
                for position, indices in enumerate(kept):
                    self.register_buffer(_buffer_name(head, position), indices, persistent=False)

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
            found.append(moments(*read) if whole else self._windows(head, read))
        return torch.cat(found, dim=1)

    def part(self, values: np.ndarray, name: str) -> np.ndarray:
        """Selects one head's features from all heads' `(N, sum of sizes)`.

        Returns:
            `(N, windows, D)`, or of features by subwindows `(N, windows * P, D)`.
        """
        position = next(k for k, head in enumerate(self.heads) if head.name == name)
        sizes, features = self.sizes_of(values.shape[1]), self.heads[position].flow.features
        begin = sum(sizes[:position])
        chosen = values[:, begin : begin + sizes[position]]
        return chosen.reshape(len(values), -1, features)

    def sizes_of(self, width: int) -> list[int]:
        """Returns each head's size in features of this width: by subwindows, or by windows.

        Raises:
            ValueError: It is neither's.
        """
        for subwindows in (False, True):
            sizes = [feature_count(head, subwindows=subwindows) for head in self.heads]
            if sum(sizes) == width:
                return sizes
        raise ValueError(f"{width} features are not those of heads {self.heads}")

    def _windows(self, head: Head, maps: list[Tensor]) -> Tensor:
        side, features = head.detail if self.subwindows else 1, head.flow.features
        if head.kept is not None:
            kept = [self.get_buffer(_buffer_name(head, position)) for position in range(len(maps))]
            pairs = zip(maps, kept, strict=True)
            maps = [torch.index_select(one, 1, indices) for one, indices in pairs if len(indices)]
        means = [window_means(one, side * head.rows, side * head.columns) for one in maps]
        windows = torch.cat(means, dim=1)
        # Channels come last first: moving runs of them twice is quicker than single numbers once.
        cells = windows.permute(0, 2, 3, 1).reshape(
            -1, head.rows, side, head.columns, side * features
        )
        return cells.transpose(2, 3).reshape(-1, feature_count(head, subwindows=self.subwindows))


def feature_count(head: Head, *, subwindows: bool = False) -> int:
    """Returns the number of values of an image that a head scores: windows times features.

    With `subwindows`, subwindows times features.
    """
    windows = head.rows * head.columns * head.flow.features
    return windows * head.detail**2 if subwindows else windows


def moments(*maps: Tensor) -> Tensor:
    """Returns the mean and the logarithm of the standard deviation of each channel.

    Args:
        maps: `(N, C, h, w)` each.

    Returns:
        `(N, 2 * sum of C)`: a map's means, then its logarithms, then the next map's.
    """
    means = [one.mean(dim=(2, 3), keepdim=True) for one in maps]
    centred = [one - mean for one, mean in zip(maps, means, strict=True)]
    variances = torch.cat([(one * one).mean(dim=(2, 3), keepdim=True) for one in centred], dim=1)
    deviations = torch.log(torch.sqrt(variances + 1e-12) + DEVIATION_OFFSET)
    by_map = torch.split(deviations, [int(one.shape[1]) for one in maps], dim=1)
    pairs = zip(means, by_map, strict=True)
    return torch.cat([one for pair in pairs for one in pair], dim=1).flatten(1)


def _buffer_name(head: Head, position: int) -> str:
    return f"kept_{head.name}_{position}"


def _kept(channels: Sequence[int], count: int) -> list[Tensor]:
    """Returns for each tap which of its channels a head keeps, drawn from all taps together."""
    draw = np.random.RandomState(0).permutation(sum(channels))[:count]
    drawn = np.isin(np.arange(sum(channels)), draw)
    return [
        torch.from_numpy(np.flatnonzero(part)) for part in np.split(drawn, np.cumsum(channels)[:-1])
    ]


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
