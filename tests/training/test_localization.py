"""Gradient maps: where the score comes from, drawn and judged."""

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from differnet_runtime.inspection.drawing import blended
from differnet_runtime.model_file.contract import InputContract
from differnet_runtime.model_file.metadata import Windows
from differnet_training.datasets import Label, open_test
from differnet_training.localization import gradient_map, localize, read_mask
from differnet_training.model import load_model
from tests.drawn import draw_part


@pytest.fixture
def model(trained):
    return load_model(trained.folder)[0].eval()


@pytest.fixture
def source(trained, tmp_path):
    """The test pictures, with masks where a scratch differs from the whole part."""
    folder = tmp_path / "rings"
    shutil.copytree(trained.source, folder)
    for path in sorted((folder / "test" / "scratch").glob("*.png")):
        picture = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        mask = folder / "ground_truth" / "scratch" / f"{path.stem}_mask.png"
        mask.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(mask), np.where(picture < 60, 255, 0).astype(np.uint8))
    return folder


def test_it_is_the_gradient_of_the_score(model):
    """Against the score's change along single pixels, before smoothing spreads it."""
    frame = draw_part(1, defect=True)
    found = gradient_map(model, frame)
    assert found.shape == frame.shape[:2]
    assert found.dtype == np.float32
    assert (found >= 0).all()
    assert all(parameter.grad is None for parameter in model.parameters())
    with torch.inference_mode():
        score = model(torch.from_numpy(frame)[None])
        order = np.argsort(found.ravel())
        changes = []
        for chosen in (order[:40], order[-40:]):
            changed = frame.reshape(-1, 3).astype(np.float32)
            changed[chosen] += 2.0
            image = torch.from_numpy(changed.reshape(frame.shape))[None]
            changes.append(abs(float(model(image) - score)))
    assert changes[1] > changes[0]


def test_a_turned_picture_has_a_turned_map(model):
    """All four right angles are views, so turning the picture turns the map."""
    assert len(model.views.angles) == 4
    frame = draw_part(3, defect=True)
    turned = np.ascontiguousarray(np.rot90(frame))
    expected = np.rot90(gradient_map(model, frame))
    np.testing.assert_allclose(
        gradient_map(model, turned), expected, atol=1e-3 * expected.max(), rtol=1e-3
    )


def test_defects_are_drawn_at_one_scale_and_judged_by_their_masks(model, source, tmp_path):
    pictures = open_test(str(source)).test
    found = localize(model, pictures, tmp_path / "maps")
    assert found.drawn == 12
    assert found.with_masks == 12 - len(found.unusable_masks) == 8  # the weakest are all black
    assert len(list((tmp_path / "maps").glob("*.png"))) == 12
    assert found.pixel_auroc is not None
    assert found.pixel_auroc > 0.6
    assert found.aupro is not None
    assert 0 < found.aupro <= 1


def test_without_masks_there_are_heatmaps_only(model, trained, tmp_path):
    found = localize(model, open_test(str(trained.source)).test, tmp_path / "maps")
    assert found.drawn == 12
    assert found.with_masks == 0
    assert found.pixel_auroc is None
    assert found.aupro is None


def test_the_scale_is_not_the_pictures_own():
    frame = np.full((8, 8, 3), 100, np.uint8)
    weak = np.zeros((8, 8), np.float32)
    weak[2, 2] = 0.01
    scale = Windows(grid=8, low=0.0, high=1.0)
    assert (blended(frame, weak, scale) >= 98).all()
    strong = blended(frame, weak * 100, scale)
    assert (strong[2, 2] != 100).any()
    assert (strong[5, 5] == 100).all()


def _broken(mask: Path, how: str) -> None:
    if how == "of another size":
        cv2.imwrite(str(mask), np.zeros((10, 10), np.uint8))
    elif how == "empty":
        cv2.imwrite(str(mask), np.zeros((64, 64), np.uint8))
    else:
        mask.write_bytes(b"no picture")


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("of another size", "the mask has 10 x 10 pixels, its picture 64 x 64"),
        ("empty", "marks no pixel that the model sees"),
        ("no picture", "not a picture"),
    ],
)
def test_a_bad_mask_is_named_and_costs_its_picture_only(model, source, tmp_path, caplog, how, said):
    pictures = open_test(str(source)).test
    chosen = [*pictures[:2], *[p for p in pictures if p.label is Label.DEFECT][:3]]
    before = localize(model, [p for p in chosen if p is not chosen[-1]], tmp_path / "maps")
    _broken(chosen[-1].mask, how)
    found = localize(model, chosen, tmp_path / "maps")
    assert (found.drawn, found.with_masks) == (3, 2)
    assert (found.pixel_auroc, found.aupro) == (before.pixel_auroc, before.aupro)
    (line,) = found.unusable_masks
    assert str(chosen[-1].mask) in line
    assert said in line
    assert line in caplog.text


def test_a_crack_thinner_than_a_pixel_of_the_input_keeps_its_mask(tmp_path):
    mask = np.zeros((256, 256), np.uint8)
    mask[40:200, 100] = 255
    cv2.imwrite(str(tmp_path / "crack.png"), mask)
    seen = read_mask(tmp_path / "crack.png", (256, 256), InputContract(height=64, width=64))
    assert 40 <= seen.sum() <= 42


def test_without_good_pictures_the_defects_alone_are_drawn(model, trained, tmp_path):
    defects = [p for p in open_test(str(trained.source)).test if p.label is Label.DEFECT]
    assert localize(model, defects[:2], tmp_path / "maps").drawn == 2
