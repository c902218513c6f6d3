"""Tiles of a large input: their joined maps are those of the whole input, without seams."""

import pytest
import torch
from torch import Tensor, nn

from differnet_runtime.model_file.contract import Tiles
from differnet_training.head_features import tiled


class Maps(nn.Module):
    """A small network: a map with stride 4 and a receptive field of 15 pixels, and one of 8."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.second = nn.Conv2d(4, 5, 3, stride=2, padding=1)
        self.third = nn.Conv2d(5, 6, 3, padding=1)
        self.last = nn.Conv2d(6, 4, 3, stride=2, padding=1)
        self.double().requires_grad_(False)

    def forward(self, x: Tensor) -> list[Tensor]:
        found = self.third(torch.relu(self.second(torch.relu(self.first(x)))))
        return [found, self.last(torch.relu(found))]


@pytest.fixture(scope="module")
def maps() -> Maps:
    return Maps()


def picture(height: int, width: int, count: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(count, 3, height, width, dtype=torch.float64, generator=generator)


@pytest.mark.parametrize("overlap", [64, 128])
@pytest.mark.parametrize(
    ("rows", "columns", "height", "width"),
    [
        (1, 2, 64, 128),
        (2, 1, 192, 64),
        (1, 3, 64, 288),
        (3, 1, 288, 64),
        (2, 2, 128, 192),
        (3, 3, 192, 288),
        (5, 2, 320, 128),
    ],
)
def test_the_joined_maps_are_those_of_the_whole(maps, rows, columns, height, width, overlap):
    x = picture(height, width)
    expected = maps(x)
    found = tiled(maps, x, Tiles(rows=rows, columns=columns, overlap=overlap))
    for joined, whole in zip(found, expected, strict=True):
        assert joined.shape == whole.shape
        assert torch.allclose(joined, whole, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("rows", "columns"), [(1, 3), (2, 2), (3, 1)])
def test_without_an_overlap_there_are_seams(maps, rows, columns):
    """And nowhere else: only cells whose receptive field crosses a border differ."""
    x = picture(192, 192, 1)
    whole = maps(x)[0]
    joined = tiled(maps, x, Tiles(rows=rows, columns=columns, overlap=0))[0]
    assert joined.shape == whole.shape
    differs = ((joined - whole).abs() > 1e-9).any(dim=1)[0]
    assert differs.any()
    far = torch.ones(48, 48, dtype=torch.bool)
    for k in range(1, rows):
        far[48 // rows * k - 2 : 48 // rows * k + 2] = False
    for k in range(1, columns):
        far[:, 48 // columns * k - 2 : 48 // columns * k + 2] = False
    assert not differs[far].any()


@pytest.mark.parametrize("tiles", [None, Tiles(rows=1, columns=1)])
def test_one_tile_is_the_whole(maps, tiles):
    x = picture(64, 96)
    calls = []

    def counted(part: Tensor) -> list[Tensor]:
        calls.append(tuple(part.shape))
        return maps(part)

    tiled(counted, x, tiles)
    assert calls == [(2, 3, 64, 96)]


def test_tiles_at_the_borders_have_the_size_of_the_others(maps):
    """All are one batch: those at the borders reach farther in rather than beyond the input."""
    calls = []

    def counted(part: Tensor) -> list[Tensor]:
        calls.append(part)
        return maps(part)

    x = picture(192, 384)
    tiled(counted, x, Tiles(rows=1, columns=3, overlap=64))
    (batch,) = calls
    assert batch.shape == (3 * 2, 3, 192, 128 + 64)
    lefts = [0, 96, 192]  # not -32, and not 224, which would end at 416
    for k, left in enumerate(lefts):
        assert torch.equal(batch[2 * k : 2 * k + 2], x[..., left : left + 192])


def test_an_overlap_wider_than_the_input_takes_all_of_it(maps):
    x = picture(64, 128)
    joined = tiled(maps, x, Tiles(rows=2, columns=2, overlap=512))
    for found, whole in zip(joined, maps(x), strict=True):
        assert torch.allclose(found, whole, rtol=0, atol=1e-12)


def test_pictures_keep_their_order(maps):
    x = picture(64, 128, 3)
    tiles = Tiles(rows=1, columns=2)
    together = tiled(maps, x, tiles)[0]
    alone = torch.cat([tiled(maps, one[None], tiles)[0] for one in x])
    assert torch.allclose(together, alone, rtol=0, atol=1e-12)
