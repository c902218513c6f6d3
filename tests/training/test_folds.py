"""Folds never divide a part, are balanced, and refuse what they can't divide."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from differnet_runtime.errors import DataError
from differnet_training.datasets import ImageFile
from differnet_training.head_fitting import (
    FOLDS,
    MANY,
    MORE_FOLDS,
    FoldPart,
    fold_of,
    groups_of,
    part_names,
)

SEEDS = st.integers(0, 2**32 - 1)


def pictures(*names: str) -> list[ImageFile]:
    return [ImageFile(Path("/data") / name) for name in names]


@st.composite
def grouped(draw: st.DrawFn) -> list[str]:
    """Groups of one to six pictures, in any order."""
    sizes = draw(st.lists(st.integers(1, 6), min_size=2 * FOLDS, max_size=40))
    groups = [f"part {k}" for k, size in enumerate(sizes) for _ in range(size)]
    return draw(st.permutations(groups))


@given(groups=grouped(), seed=SEEDS)
def test_a_group_is_never_divided(groups: list[str], seed: int) -> None:
    fold = fold_of(groups, seed)
    assert fold.shape == (len(groups),)
    assert len({(name, int(k)) for name, k in zip(groups, fold, strict=True)}) == len(set(groups))


@given(groups=grouped(), seed=SEEDS)
def test_folds_are_balanced_to_the_largest_group(groups: list[str], seed: int) -> None:
    counts = np.bincount(fold_of(groups, seed))
    assert len(counts) == (MORE_FOLDS if len(set(groups)) >= 2 * MORE_FOLDS else FOLDS)
    largest = max(groups.count(name) for name in set(groups))
    assert counts.min() > 0
    assert counts.max() - counts.min() <= largest


@given(count=st.integers(2 * FOLDS, 90), seed=SEEDS)
def test_different_pictures_are_divided_evenly(count: int, seed: int) -> None:
    counts = np.bincount(fold_of([str(k) for k in range(count)], seed))
    assert len(counts) == (MORE_FOLDS if 2 * MORE_FOLDS <= count < MANY else FOLDS)
    assert counts.max() - counts.min() <= 1


@given(groups=grouped(), seed=SEEDS)
def test_the_order_of_the_pictures_does_not_matter(groups: list[str], seed: int) -> None:
    of = dict(zip(groups, fold_of(groups, seed), strict=True))
    assert [of[name] for name in sorted(groups)] == list(fold_of(sorted(groups), seed))


def test_the_seed_decides() -> None:
    groups = [str(k) for k in range(50)]
    assert np.array_equal(fold_of(groups, 3), fold_of(groups, 3))
    assert not np.array_equal(fold_of(groups, 3), fold_of(groups, 4))


@pytest.mark.parametrize("groups", [["a"] * 100, [str(k) for k in range(9)], []])
def test_too_few_different_pictures_are_refused(groups: list[str]) -> None:
    found = len(set(groups))
    with pytest.raises(DataError, match=f"found {found} different ones, expected at least 10"):
        fold_of(groups, 0)


class TestGroups:
    def test_without_a_pattern_equal_files_are_of_one_group(self) -> None:
        taken = pictures("1.png", "2.png", "3.png")
        assert groups_of(taken, ["x", "y", "x"], None) == ["x", "y", "x"]
        assert part_names(taken, None) == [None, None, None]

    def test_the_first_group_of_a_pattern_names_the_part(self) -> None:
        taken = pictures("a/17_left.png", "a/17_right.png", "b/18_left.png")
        names = groups_of(taken, ["1", "2", "3"], r"/(\d+)_(left|right)")
        assert names == ["17", "17", "18"]

    def test_without_a_group_it_is_all_that_matches(self) -> None:
        taken = pictures("lot7/1.png", "lot8/2.png", "lot7/3.png")
        assert groups_of(taken, ["1", "2", "3"], r"lot\d") == ["lot7", "lot8", "lot7"]

    def test_pictures_that_it_does_not_match_stand_by_themselves(self) -> None:
        taken = pictures("17_left.png", "17_right.png", "other.png", "another.png")
        names = groups_of(taken, ["1", "2", "same", "same"], r"(\d+)_")
        assert names == ["17", "17", "same", "same"]

    def test_an_empty_name_is_no_name(self) -> None:
        taken = pictures("a_1.png", "_2.png")
        assert groups_of(taken, ["1", "2"], r"/(a?)_") == ["a", "2"]

    def test_a_bad_pattern_is_refused(self) -> None:
        with pytest.raises(DataError, match=r"--groups '\(' is not a regular expression: missing"):
            part_names(pictures("1.png"), "(")

    def test_a_pattern_that_matches_nothing_is_refused(self) -> None:
        with pytest.raises(DataError, match=r"matches none of the 2 pictures.*first is /data/1"):
            part_names(pictures("1.png", "2.png"), "lot")


def test_what_goes_out_of_a_part_leaves_the_others_in_order():
    values = np.arange(12, dtype=np.float32).reshape(6, 2)
    taken = tuple(ImageFile(Path(f"{k}.png")) for k in range(6))
    part = FoldPart(taken, tuple("abcdef"), values, tuple("uvwxyz"))
    kept, gone = part.divided(np.array([False, True, False, False, True, False]))
    assert (kept.content, gone.content) == (tuple("acdf"), tuple("be"))
    assert (kept.groups, gone.groups) == (tuple("uwxz"), tuple("vy"))
    assert kept.values[:, 0].tolist() == [0, 4, 6, 10]
    assert gone.values[:, 0].tolist() == [2, 8]
    assert [picture.path.stem for picture in kept.images] == ["0", "2", "3", "5"]
    assert np.shares_memory(kept.values, values)
