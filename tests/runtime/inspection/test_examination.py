"""The look at pictures before anything is learned: what is found, by name and cause."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from differnet_runtime.inspection.examination import (
    ImageFinding,
    Measured,
    Weight,
    detail_of,
    different_parts,
    examine,
    listed,
    measure,
    parts_of,
)
from differnet_runtime.inspection.similar import Scene
from tests.drawn import draw_part

Picture = NDArray[np.uint8]


def same_scene(one: Picture, other: Picture) -> bool:
    return Scene.of(one).same_as(Scene.of(other))


def noisy(picture: Picture, sigma: float, seed: int) -> Picture:
    noise = np.random.RandomState(seed).randn(*picture.shape) * sigma
    return np.clip(picture + noise, 0, 255).round().astype(np.uint8)


def measured(pictures: dict[str, Picture]) -> list[Measured]:
    return [
        measure(Path(name), str(hash(picture.tobytes())), picture, picture)
        for name, picture in pictures.items()
    ]


def parts(count: int = 40) -> dict[str, Picture]:
    return {f"part{k:02d}.jpg": draw_part(k) for k in range(count)}


def found(
    extra: dict[str, Picture], good: dict[str, Picture] | None = None
) -> set[tuple[str, ...]]:
    pictures = {**(parts() if good is None else good), **extra}
    findings = examine(measured(pictures)).findings
    return {(one.path.name, one.cause, one.weight.value) for one in findings}


def test_nothing_is_found_among_good_parts() -> None:
    assert found({}) == set()


def test_frames_without_a_part_are_surely_none() -> None:
    black = noisy(np.full((64, 64, 3), 2, np.uint8), 2.0, 0)
    white = noisy(np.full((64, 64, 3), 252, np.uint8), 2.0, 0)
    grey = np.full((64, 64, 3), 128, np.uint8)
    assert found({"a.jpg": black, "b.jpg": white, "c.jpg": grey}) == {
        ("a.jpg", "black", "sure"),
        ("b.jpg", "blown out", "sure"),
        ("c.jpg", "constant", "sure"),
    }


def test_a_dark_scene_is_not_black() -> None:
    dark = {name: (picture // 16).astype(np.uint8) for name, picture in parts().items()}
    assert found({}, dark) == set()


def test_a_blurred_picture_is_doubtful() -> None:
    assert found({"soft.jpg": cv2.GaussianBlur(draw_part(99), (0, 0), 5.0)}) == {
        ("soft.jpg", "blurred", "doubtful")
    }


def mask(seed: int) -> Picture:
    drawn = np.zeros((64, 64, 3), np.uint8)
    return cv2.circle(drawn, (20 + seed % 20, 30), 8, (255, 255, 255), -1)


@pytest.mark.parametrize("name", ["part{:02d}.png", "part{:02d}_mask.png"])
def test_masks_beside_the_pictures_are_surely_no_parts(name: str) -> None:
    masks = {name.format(k): mask(k) for k in range(40)}
    assert found(masks) >= {(one, "mask", "sure") for one in masks}
    assert not {one for one, *_ in found(masks)} - set(masks)


def test_a_picture_named_as_a_mask_is_one_whatever_it_shows() -> None:
    assert found({"part03-gt.png": draw_part(3, defect=True)}) == {
        ("part03-gt.png", "mask", "sure")
    }


def test_two_valued_parts_are_no_masks_where_all_are() -> None:
    assert found({}, {f"{k}.png": mask(k) for k in range(20)}) == set()


def test_a_lamp_in_a_dark_picture_makes_no_mask() -> None:
    glinting = np.full((64, 64, 3), 40, np.uint8)
    glinting[10:12, 10:12] = 255
    good = {name: draw_part(k) for k, name in enumerate(parts())}
    assert found({"glint.jpg": noisy(glinting, 2.0, 0)}, good) <= {
        ("glint.jpg", "blurred", "doubtful")
    }


def test_another_picture_of_the_same_name_is_doubtful() -> None:
    overlay = cv2.applyColorMap(draw_part(4), cv2.COLORMAP_JET)
    assert ("part04.png", "companion", "doubtful") in found({"part04.png": overlay})


def test_copies_and_other_shapes_are_worth_a_note() -> None:
    good = parts()
    extra = {"again.jpg": good["part07.jpg"], "wide.jpg": np.hstack([draw_part(90)] * 2)}
    assert found({**extra, "large.jpg": draw_part(91, size=128)}) == {
        ("again.jpg", "copy", "note"),
        ("wide.jpg", "another aspect", "note"),
        ("large.jpg", "another size", "note"),
    }


def test_a_message_lists_the_first_and_counts_the_rest() -> None:
    findings = [ImageFinding(Path(f"f/{k}.png"), "black", "why", Weight.SURE) for k in range(5)]
    assert listed(findings, 2) == "  0.png: black (why)\n  1.png: black (why)\n  ... 3 more"


@pytest.mark.parametrize("sigma", [0.0, 2.0, 5.0, 8.0])
def test_noisy_frames_of_a_part_are_one_part(sigma: float) -> None:
    frames = [noisy(draw_part(k // 10), sigma, k) for k in range(120)]
    assert parts_of([detail_of(one) for one in frames]) == [k // 10 for k in range(120)]


def test_different_parts_in_a_fixture_are_not_one() -> None:
    """They lie alike to the pixel, and only their fine grain differs."""
    plate = draw_part(0, size=256)
    pictures = []
    for k in range(30):
        grain = cv2.GaussianBlur(np.random.RandomState(k).randn(256, 256), (0, 0), 3.0)
        pictures.append(noisy(np.clip(plate + 30 * grain[:, :, None], 0, 255), 2.0, k))
    assert parts_of([detail_of(one) for one in pictures]) == list(range(30))
    assert not same_scene(pictures[0], pictures[1])


def test_parts_that_differ_a_little_each_from_the_next_are_not_one() -> None:
    """A kind of part in many small variations, beside another kind that sets the usual distance."""
    random = np.random.RandomState(0)
    first, second, other = random.randn(3, 4096).astype(np.float32)
    rows = [np.cos(a) * first + np.sin(a) * second for a in np.linspace(0.0, 2.0, 40)]
    rows += [other + 0.5 * random.randn(4096).astype(np.float32) for _ in range(40)]
    details = [(row - row.mean()) / row.std() for row in rows]
    assert parts_of(details) == list(range(80))
    assert parts_of([*details, details[0]]) == [*range(80), 0]


def test_equal_files_show_one_part_even_if_they_show_nothing() -> None:
    levels = {"a.png": 9, "b.png": 9, "c.png": 7}
    plain = {name: np.full((64, 64, 3), level, np.uint8) for name, level in levels.items()}
    assert different_parts(measured(plain)) == [0, 0, 2]


@pytest.mark.parametrize("gain", [0.9, 1.0, 1.1])
def test_noise_and_exposure_are_the_same_scene(gain: float) -> None:
    part = draw_part(5, size=128)
    brighter = np.clip(part * gain, 0, 255).astype(np.uint8)
    assert same_scene(noisy(part, 4.0, 1), noisy(brighter, 4.0, 2))
    assert not same_scene(noisy(part, 4.0, 1), noisy(draw_part(6, size=128), 4.0, 2))
