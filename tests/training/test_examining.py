"""Folders as people have them: `train` names what is wrong, and what it learns still holds."""

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from differnet_runtime.cli import main
from differnet_training.datasets.base import images_in
from differnet_training.features import FeatureReader, ViewPlan
from differnet_training.model import load_model, read_training
from differnet_training.recipes import RECIPES
from tests.conftest import HEADED
from tests.drawn import draw_part, write_parts

FRESH, DEFECTS = 200, 20


@pytest.fixture(autouse=True)
def small_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    """The default recipe with few channels: `train` takes seconds."""
    monkeypatch.setitem(RECIPES, "edge", HEADED)


def train(data: Path, output: Path, *options: str) -> int:
    """Trains for an epoch, on small pictures."""
    arguments = ["train", "--data", str(data), "-o", str(output), "--size", "64", "--epochs", "1"]
    return main([*arguments, "--cache", str(output.parent / "cache"), *options])


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fresh good parts and defective ones; the same as a camera with noise sees them."""
    root = tmp_path_factory.mktemp("judged")
    for name, count, first in (("good", FRESH, 5000), ("defect", DEFECTS, 6000)):
        for path in write_parts(root / name, count, first=first, defect=name == "defect"):
            seen = noisy(cv2.imread(str(path)), int(path.stem[-4:]))
            (root / f"noisy_{name}").mkdir(exist_ok=True)
            cv2.imwrite(str(root / f"noisy_{name}" / path.name), seen)
    return root


def rejected(model: Path, judged: Path, prefix: str = "") -> tuple[int, int]:
    """Returns how many of the fresh good parts are rejected, and how many defects."""
    loaded, metadata = load_model(model)
    reader = FeatureReader(loaded.extractor, metadata.input, judged / "cache", heads=metadata.heads)
    assert metadata.calibration is not None
    counts = []
    for name in (f"{prefix}good", f"{prefix}defect"):
        features = reader.read(images_in(judged / name), ViewPlan.fixed((0.0,)), name)
        scores = loaded.judge_features(features.values).scores
        counts.append(int((scores > metadata.calibration.threshold).sum()))
    return counts[0], counts[1]


def look_of(model: Path) -> dict:
    return read_training(model)["look"]


def noisy(picture: np.ndarray, seed: int) -> np.ndarray:
    noise = np.random.RandomState(seed).randn(*picture.shape) * 2.0
    return np.clip(picture + noise, 0, 255).round().astype(np.uint8)


def test_the_model_knows_every_size_that_it_learned_from(tmp_path: Path) -> None:
    write_parts(tmp_path / "good", 40)
    for seed in range(50, 60):
        cv2.imwrite(str(tmp_path / "good" / f"large{seed}.png"), draw_part(seed, size=80))
    assert train(tmp_path / "good", tmp_path / "model", "--doubtful", "keep") == 0
    known = load_model(tmp_path / "model")[1].picture_sizes
    assert known is not None
    assert known.sizes == ((64, 64), (80, 80))


@pytest.mark.parametrize(
    ("name", "picture", "cause"),
    [
        ("lamp_off", noisy(np.full((64, 64, 3), 3.0), 0), "black"),
        ("overexposed", np.full((64, 64, 3), 255, np.uint8), "constant"),
        ("part0003_mask", np.eye(64, dtype=np.uint8) * 255, "mask"),
    ],
)
def test_a_picture_that_shows_no_good_part_stops(tmp_path, capsys, name, picture, cause):
    write_parts(tmp_path / "data", 60)
    cv2.imwrite(str(tmp_path / "data" / f"{name}.png"), picture)
    assert train(tmp_path / "data", tmp_path / "model") == 2
    said = capsys.readouterr().err
    assert f"1 of 61 pictures show no good part:\n  {name}.png: {cause}" in said
    assert not (tmp_path / "model").exists()


def test_masks_beside_the_pictures_stop(tmp_path, capsys):
    for path in write_parts(tmp_path / "data", 20):
        cv2.imwrite(str(path.with_suffix(".bmp")), np.eye(64, dtype=np.uint8) * 255)
    assert train(tmp_path / "data", tmp_path / "model") == 2
    said = capsys.readouterr().err
    assert "20 of 40 pictures show no good part" in said
    assert "part0000.bmp: mask" in said


def test_a_constant_set_stops(tmp_path, capsys):
    (tmp_path / "data").mkdir()
    for k in range(40):
        cv2.imwrite(str(tmp_path / f"data/{k}.png"), np.full((64, 64, 3), 100 + k, np.uint8))
    assert train(tmp_path / "data", tmp_path / "model") == 2
    assert "40 of 40 pictures show no good part:\n  0.png: constant" in capsys.readouterr().err


def test_one_picture_many_times_is_one_part(tmp_path, capsys, caplog):
    for k, path in enumerate(write_parts(tmp_path / "data", 40)):
        cv2.imwrite(str(path), noisy(draw_part(k % 4), k))
    assert train(tmp_path / "data", tmp_path / "model") == 2
    assert "40 pictures of 4 different parts" in caplog.text
    assert "found 4 different ones, expected at least 10" in capsys.readouterr().err


@pytest.fixture(scope="module")
def hidden(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """95 good parts, and 5 defective ones among them."""
    folder = tmp_path_factory.mktemp("hidden") / "data"
    write_parts(folder, 95)
    for path in write_parts(folder.parent / "hidden", 5, first=900, defect=True):
        shutil.copy(path, folder / f"hidden_{path.name}")
    return folder


class TestHiddenDefects:
    def test_they_are_found_by_name_and_the_model_holds(
        self, one_thread, hidden, judged, tmp_path, caplog
    ):
        assert train(hidden, tmp_path / "model") == 0
        said = caplog.text
        found = [line for line in said.splitlines() if "hidden_part" in line and "strange" in line]
        assert len(found) >= 4
        assert "are left out" in said
        look = look_of(tmp_path / "model")
        first = [Path(entry["path"]).name for entry in look["strangest"][: 2 * 5 + 5]]
        assert sum(name.startswith("hidden_") for name in first) >= 4
        out = [Path(one["path"]).name for one in look["findings"] if one["left_out"]]
        assert len(out) == sum(one["left_out"] for one in look["strangest"]) >= 4
        assert all(name.startswith("hidden_") for name in out)  # nearer ones are learned from
        assert all(entry["threshold"] > 0 for entry in look["strangest"])
        page = (tmp_path / "model" / "look.html").read_text()
        assert page.count("data:image/jpeg;base64,") >= 24
        assert "hidden_part0900.png" in page
        good, defects = rejected(tmp_path / "model", judged)
        assert defects == DEFECTS
        assert good <= FRESH // 10

    def test_they_can_stop_the_training(self, one_thread, hidden, tmp_path, capsys):
        assert train(hidden, tmp_path / "model", "--doubtful", "stop") == 2
        assert "--doubtful keep" in capsys.readouterr().err
        assert not (tmp_path / "model" / "model.json").exists()


@pytest.mark.parametrize(
    ("parts", "times", "first"), [(40, 6, "copy"), (12, 10, "frame")], ids=["copies", "frames"]
)
def test_near_identical_pictures_are_one_part_and_the_promise_holds(
    one_thread, judged, tmp_path, capsys, caplog, parts, times, first
):
    data = tmp_path / "data"
    data.mkdir()
    for k in range(parts * times):
        picture = draw_part(k // times)
        frame = picture if first == "copy" else noisy(picture, k)
        cv2.imwrite(str(data / f"{k:03d}.png"), frame)
    assert train(data, tmp_path / "model") == 0
    assert f"{parts * times} pictures of {parts} different parts" in caplog.text
    assert f"from {parts} out-of-fold scores" in capsys.readouterr().out
    prefix = "noisy_" if first == "frame" else ""
    good, defects = rejected(tmp_path / "model", judged, prefix)
    assert good <= FRESH // 10
    assert defects == DEFECTS
    look = look_of(tmp_path / "model")
    assert look["different_parts"] == parts


def test_twelve_parts_through_capture_and_train_keep_the_promise(
    one_thread, judged, tmp_path, capsys
):
    belt, data = tmp_path / "belt", tmp_path / "data"
    belt.mkdir()
    for k in range(120):
        cv2.imwrite(str(belt / f"{k:03d}.png"), noisy(draw_part(k // 10), k))
    taken = ["capture", "--camera", str(belt), "--output", str(data), "--count", "120"]
    assert main([*taken, "--settle", "0"]) == 0
    assert "12 pictures of 12 different parts" in capsys.readouterr().out
    assert train(data, tmp_path / "model") == 0
    good, _ = rejected(tmp_path / "model", judged, "noisy_")
    calibration = load_model(tmp_path / "model")[1].calibration
    assert calibration is not None
    assert good <= calibration.bound * FRESH


def test_a_folder_for_each_part_says_what_belongs_together(
    one_thread, tmp_path, capsys, caplog
) -> None:
    for part in range(20):
        write_parts(tmp_path / f"data/good/{part:02d}", 2, first=2 * part)
    assert train(tmp_path / "data", tmp_path / "model") == 0
    assert "from 20 out-of-fold scores" in capsys.readouterr().out
    assert "different parts" not in caplog.text  # the user has said it
    groups = {*read_training(tmp_path / "model")["groups"]}
    assert groups == {f"{part:02d}" for part in range(20)}
