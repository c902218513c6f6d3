"""The input's shape: aspect kept, sides multiples of 32, about as many pixels as before."""

import math
from argparse import ArgumentTypeError

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from differnet_runtime.errors import DataError, TrainingError
from differnet_runtime.model_file.contract import Region, Tiles
from differnet_training.commands.train import parse_size, parse_tiles
from differnet_training.datasets import ImageFile
from differnet_training.geometry import (
    LONGEST,
    LOOKED_AT,
    PIXELS,
    STEP,
    choose_contract,
    choose_size,
    image_sizes,
)
from differnet_training.recipes import EDGE, PAPER_LITE

ASPECTS = st.floats(1 / 8, 8)


def written(folder, *shapes) -> list[ImageFile]:
    """Pictures of these heights and widths."""
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    for k, shape in enumerate(shapes):
        path = folder / f"{k:03d}.png"
        cv2.imwrite(str(path), np.full((*shape, 3), 128, np.uint8))
        found.append(ImageFile(path))
    return found


class TestChooseSize:
    @given(aspect=ASPECTS)
    def test_sides_are_multiples_of_32_of_that_aspect(self, aspect: float) -> None:
        height, width = choose_size([(round(1000 * aspect), 1000)])
        assert height % STEP == width % STEP == 0
        assert min(height, width) >= STEP
        assert max(height, width) <= LONGEST
        # Half a step of the shorter side, at the worst.
        allowed = math.log(1 + 0.5 * STEP / min(height, width)) + 0.05
        assert abs(math.log(height / width / aspect)) <= allowed

    @given(aspect=ASPECTS)
    def test_there_are_about_65536_pixels(self, aspect: float) -> None:
        height, width = choose_size([(round(1000 * aspect), 1000)])
        assert 0.7 <= height * width / PIXELS <= 1.4

    @given(aspect=st.floats(1 / 4, 4), more=st.integers(1, 9))
    def test_more_pixels_are_met_the_closer(self, aspect: float, more: int) -> None:
        wanted = PIXELS * (1 + more)
        height, width = choose_size([(round(1000 * aspect), 1000)], wanted)
        assert 0.75 <= height * width / wanted <= 1.3
        assert abs(math.log(height / width / aspect)) < 0.08

    def test_a_square_is_that_of_before(self) -> None:
        assert choose_size([(300, 300)]) == (256, 256)

    @pytest.mark.parametrize(
        ("shape", "expected"), [((1280, 500), (416, 160)), ((500, 1280), (160, 416))]
    )
    def test_height_and_width_are_told_apart(self, shape, expected) -> None:
        assert choose_size([shape]) == expected

    def test_the_median_aspect_counts(self) -> None:
        assert choose_size([(300, 300), (310, 310), (900, 100)]) == (256, 256)


class TestParsing:
    @given(height=st.integers(0, 9999), width=st.integers(0, 9999))
    def test_height_comes_first(self, height: int, width: int) -> None:
        assert parse_size(f"{height}x{width}") == (height, width)
        assert parse_size(f"{height}X{width}") == (height, width)

    def test_one_number_is_a_square(self) -> None:
        assert parse_size("640") == (640, 640)

    @pytest.mark.parametrize("text", ["10x", "x10", "", "axb", "1x2x3", "-5x5", "1.5x2", "640,256"])
    def test_what_is_no_size_is_refused(self, text: str) -> None:
        with pytest.raises(ArgumentTypeError, match="--size takes HEIGHTxWIDTH") as raised:
            parse_size(text)
        assert repr(text) in str(raised.value)

    def test_tiles(self) -> None:
        assert parse_tiles("2x3") == Tiles(rows=2, columns=3, overlap=64)

    @pytest.mark.parametrize("text", ["0x1", "1x0", "17x1", "2", "2x", "axb", "1x1x1", "-1x1"])
    def test_what_are_no_tiles_is_refused(self, text: str) -> None:
        with pytest.raises(ArgumentTypeError, match="--tiles takes ROWSxCOLUMNS") as raised:
            parse_tiles(text)
        assert repr(text) in str(raised.value)


class TestContract:
    def test_the_pictures_shape_is_kept(self, tmp_path) -> None:
        contract = choose_contract(EDGE, written(tmp_path, (100, 250), (100, 250), (240, 240)))
        assert (contract.height, contract.width) == (160, 416)

    def test_a_recipe_with_a_size_keeps_it(self, tmp_path) -> None:
        contract = choose_contract(PAPER_LITE, written(tmp_path, (100, 250)))
        assert contract.shape == (256, 256, 3)

    def test_what_is_asked_for_counts(self, tmp_path) -> None:
        for recipe in (EDGE, PAPER_LITE):
            contract = choose_contract(recipe, written(tmp_path, (100, 250)), size=(96, 64))
            assert contract.shape == (96, 64, 3)

    def test_a_size_that_is_asked_for_needs_no_picture(self) -> None:
        assert choose_contract(EDGE, [], size=(96, 64)).shape == (96, 64, 3)

    def test_the_region_is_what_is_resized(self, tmp_path) -> None:
        region = Region(x=0, y=0, width=100, height=250)
        contract = choose_contract(EDGE, written(tmp_path, (300, 300)), region=region)
        assert (contract.height, contract.width, contract.region) == (416, 160, region)

    @pytest.mark.parametrize(("rows", "columns"), [(1, 2), (2, 1), (3, 3), (1, 5), (4, 2)])
    @pytest.mark.parametrize("shape", [(300, 300), (100, 250), (333, 77)])
    def test_tiles_fit_what_is_chosen_and_bring_pixels(self, tmp_path, shape, rows, columns):
        tiles = Tiles(rows=rows, columns=columns)
        contract = choose_contract(EDGE, written(tmp_path, shape), tiles=tiles)
        assert contract.tiles == tiles
        assert contract.height % (STEP * rows) == contract.width % (STEP * columns) == 0
        pixels = contract.height * contract.width
        assert 0.6 <= pixels / (PIXELS * rows * columns) <= 1.7

    @pytest.mark.parametrize(
        ("size", "message"),
        [
            ((65, 64), "--size 65x64: height: Input should be a multiple of 4"),
            ((64, 16), "--size 64x16: width: Input should be greater than or equal to 32"),
            ((9000, 64), "--size 9000x64: height: Input should be less than or equal to 8192"),
        ],
    )
    def test_sizes_out_of_range_are_refused(self, size, message) -> None:
        with pytest.raises(TrainingError, match=message):
            choose_contract(EDGE, [], size=size)

    def test_tiles_that_do_not_fit_the_size_are_refused(self) -> None:
        with pytest.raises(TrainingError, match="--size 96x64: 2x1 tiles need a height that is"):
            choose_contract(EDGE, [], size=(96, 64), tiles=Tiles(rows=2, columns=1))

    @pytest.mark.parametrize("count", [1, LOOKED_AT, LOOKED_AT + 1, 127, 3 * LOOKED_AT, 1000])
    def test_no_more_are_looked_at_than_are_needed(self, tmp_path, count) -> None:
        (one,) = written(tmp_path, (20, 30))
        sizes = image_sizes([one] * count)
        assert min(count, LOOKED_AT // 2) <= len(sizes) <= LOOKED_AT
        assert set(sizes) == {(20, 30)}

    def test_unreadable_pictures_are_passed_over_here(self, tmp_path) -> None:
        taken = written(tmp_path, (20, 30), (20, 30))
        taken[0].path.write_text("broken")
        assert image_sizes(taken) == [(20, 30)]
        taken[1].path.write_text("broken")
        with pytest.raises(DataError, match="none of the 2 pictures can be read"):
            image_sizes(taken)
