"""Divides large inputs into tiles, extracts them as one batch, and joins their feature maps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from differnet_runtime.metadata import Tiles


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
