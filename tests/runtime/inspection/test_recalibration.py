"""How many good parts may lie above the present threshold before someone is asked."""

from __future__ import annotations

import numpy as np
import pytest

from differnet_runtime.commands.calibrating import check_share, most_by_chance
from differnet_runtime.errors import CalibrationError
from differnet_runtime.inspection.calibration import calibrate


@pytest.mark.parametrize(("images", "tail"), [(19, "rank"), (40, "rank"), (20, "lognormal")])
def test_good_parts_like_those_before_are_questioned_once_in_a_hundred(
    images: int, tail: str
) -> None:
    random = np.random.RandomState(1)
    questioned = 0
    rounds = 1000
    for _ in range(rounds):
        good = random.lognormal(size=images + 60)
        present = calibrate(good[:images].tolist(), 0.05, scored_by="torch", tail=tail)
        above = int((good[images:] > present.threshold).sum())
        questioned += above > most_by_chance(present, 60)
    assert questioned <= 0.02 * rounds


def test_with_many_calibration_pictures_it_is_the_binomial_law() -> None:
    """P(X <= 7) = 0.992 and P(X <= 6) = 0.979 for X ~ Binomial(60, 0.05)."""
    present = calibrate(np.arange(1.0, 20_000.0).tolist(), 0.05, scored_by="torch")
    assert most_by_chance(present, 60) == 7


@pytest.mark.parametrize("defects", [31, 60])
def test_defects_are_questioned(defects: int) -> None:
    present = calibrate([1.0 + k / 100 for k in range(60)], 0.05, scored_by="torch")
    scores = {f"{k:02d}.png": 9.0 + k if k < defects else 1.0 for k in range(60)}
    with pytest.raises(CalibrationError, match=f"{defects} of 60 pictures are above") as caught:
        check_share(scores, present, "pictures")
    assert f"The highest: {defects - 1:02d}.png, {defects - 2:02d}.png" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_nothing_is_questioned_without_a_threshold_to_compare_with() -> None:
    check_share({"a.png": 1e9}, None, "pictures")
