"""Which sizes a model knows: those of cameras exactly, those of cut-out pictures by range."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from differnet_runtime.model_file.contract import PictureSizes

SIDES = st.tuples(st.integers(8, 4000), st.integers(8, 4000))


def varying(count: int, seed: int) -> list[tuple[int, int]]:
    """Returns sizes of pictures that were cut out by hand."""
    random = np.random.RandomState(seed)
    return [(int(500 + w), int(1240 + h)) for w, h in random.randint(-12, 13, (count, 2))]


@given(st.lists(SIDES, min_size=1, max_size=200))
def test_every_picture_that_was_learned_from_is_accepted(pictures: list[tuple[int, int]]) -> None:
    known = PictureSizes.of(pictures)
    assert all(known.accepts(*size) for size in pictures)
    assert PictureSizes.model_validate_json(known.model_dump_json()) == known


@given(st.lists(SIDES, min_size=1, max_size=40), st.lists(SIDES, min_size=1, max_size=40))
def test_joined_sizes_accept_what_either_does(
    first: list[tuple[int, int]], second: list[tuple[int, int]]
) -> None:
    joined = PictureSizes.of(first).joined(PictureSizes.of(second))
    assert all(joined.accepts(*size) for size in (*first, *second))


@pytest.mark.parametrize("pictures", [[(640, 480)], [(640, 480)] * 40 + [(1280, 960)] * 5])
def test_a_camera_has_its_sizes_and_no_other(pictures: list[tuple[int, int]]) -> None:
    known = PictureSizes.of(pictures)
    assert not known.varied
    for size in ((160, 120), (480, 640), (639, 480), (800, 600), (2560, 1920)):
        assert not known.accepts(*size)


def test_one_stray_picture_adds_its_size_only() -> None:
    known = PictureSizes.of([(640, 480)] * 30 + [(320, 240)])
    assert known.sizes == ((640, 480), (320, 240))
    assert not known.accepts(480, 360)


@pytest.mark.parametrize("count", [10, 31, 200])
def test_sizes_that_vary_accept_their_like(count: int) -> None:
    known = PictureSizes.of(varying(count, 0))
    assert known.varied
    assert known.sizes == ()
    assert all(known.accepts(*size) for size in varying(300, 1))
    for size in ((160, 120), (1240, 500), (250, 620), (500, 900), (1000, 2480)):
        assert not known.accepts(*size)


def test_sizes_are_said_in_words() -> None:
    assert str(PictureSizes.of([(64, 48)])) == "64 x 48"
    assert str(PictureSizes.of([(64, 48), (32, 24), (64, 48)])) == "64 x 48, 32 x 24"
    many = [(64 + k, 48) for k in range(6)] * 2
    assert str(PictureSizes.of(many)) == "64 x 48, 65 x 48, 66 x 48, 67 x 48 and 2 more sizes"
    assert str(PictureSizes.of([(64, 48), (65, 48), (66, 48)])) == "64 to 66 x 48 (sizes vary)"
