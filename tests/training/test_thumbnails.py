"""Pictures of the report's gallery."""

from __future__ import annotations

import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from differnet_runtime.model_file.contract import InputContract, Region
from differnet_training.page import thumbnail

SIZE = 200


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "part.png"
    cv2.imwrite(str(path), np.full((SIZE, SIZE, 3), 90, np.uint8))
    return path


def corners(outline: str) -> np.ndarray:
    """Returns the least and the greatest x and y of an SVG path."""
    points = np.array(re.findall(r"([\d.]+) ([\d.]+)", outline), float)
    return np.array([points.min(0), points.max(0)])


@pytest.mark.parametrize("region", [None, Region(x=40, y=20, width=128, height=128)])
def test_the_true_outline_lies_where_the_mask_is(picture: Path, region: Region | None) -> None:
    mask = np.zeros((SIZE, SIZE), np.uint8)
    mask[50:70, 60:100] = 255
    path = picture.with_name("mask.png")
    cv2.imwrite(str(path), mask)
    contract = InputContract(size=64, region=region)
    shown = thumbnail(picture, contract, ("part.png",), mask=path, side=SIZE)
    assert shown.outline is not None
    assert shown.outline.count("M") == shown.outline.count("Z") == 1
    left, top = (0, 0) if region is None else (region.x, region.y)
    expected = np.array([[60 - left, 50 - top], [100 - left, 70 - top]])
    assert np.abs(corners(shown.outline) - expected).max() <= 1.0


def test_a_mask_that_can_not_be_used_is_said_and_the_picture_shown(picture: Path) -> None:
    path = picture.with_name("mask.png")
    cv2.imwrite(str(path), np.full((10, 10), 255, np.uint8))
    shown = thumbnail(picture, InputContract(size=64), ("part.png",), mask=path)
    assert shown.caption == ("part.png", "its mask can't be used")
    assert shown.outline is None
    assert shown.picture is not None
