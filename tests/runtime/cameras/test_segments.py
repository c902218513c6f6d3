"""Where a picture of H.265 ends and parts of the next one were appended to it."""

from __future__ import annotations

import itertools

import pytest

from differnet_runtime.cameras.bitstream import Units
from differnet_runtime.cameras.libav import Signs
from tests.fakes.clips import Clip
from tests.fakes.damaged_streams import units_of
from tests.runtime.cameras.test_signs import Packet

SLICES = 4
START = b"\0\0\1"


def slices_of(unit: bytes) -> list[bytes]:
    """Returns the slices of a picture, each behind its start code."""
    parts = unit.replace(b"\0" + START, START).split(START)[1:]
    return [START + part for part in parts if part[0] >> 1 & 0x3F < 32]


@pytest.mark.parametrize(
    "extra", ["", ":temporal-layers=1:bframes=3", ":ctu=16:min-cu-size=8", ":annexb=1:open-gop=1"]
)
def test_what_was_appended_of_the_next_picture_is_cut_off(extra: str) -> None:
    pictures = units_of(Clip(frames=24, gop=10, codec="h265", slices=SLICES, extra=extra))
    units = Units("hevc", None)
    for picture, following in itertools.pairwise(pictures):
        assert units.split_pictures(picture) == (picture, None)
        assert units.split_pictures(picture + following[1:]) == (picture, following[1:])
        slices = slices_of(following)
        assert len(slices) == SLICES
        for first in range(1, SLICES):
            assert units.split_pictures(picture + b"".join(slices[first:])) == (picture, b"")


def test_a_picture_that_lacks_slices_is_left_as_it_is() -> None:
    (picture,) = units_of(Clip(frames=1, codec="h265", slices=SLICES))
    units = Units("hevc", None)
    for lost in slices_of(picture):
        left = picture.replace(lost, b"")
        assert units.split_pictures(left) == (left, None)


def test_units_of_an_unknown_stream_are_left_as_they_are() -> None:
    slices = b"".join(START + bytes([2, 1, 0x40 + k % 2, 0x55, 0x55]) for k in range(9))
    assert Units("hevc", None).split_pictures(slices) == (slices, None)
    assert Units("hevc", None).split_pictures(b"") == (b"", None)


def test_a_loss_behind_a_picture_is_not_of_it() -> None:
    signs = Signs(ends_shown=True)
    signs.opened(0, [])
    signs.demuxed(Packet(10, is_corrupt=True), [], True)
    signs.lost_behind(10)
    signs.demuxed(Packet(20, is_corrupt=True), [], True)
    signs.found(20, "it is broken")
    signs.lost_behind(20)
    assert [signs.take(10), signs.take(20)] == [None, "it is broken"]
