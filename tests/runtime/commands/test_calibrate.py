import hashlib
import json
import math
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest

from differnet_runtime import Detector
from differnet_runtime.cli import main
from differnet_runtime.inspection.calibration import HEADROOM
from differnet_runtime.model_file.contract import PictureSizes
from differnet_runtime.model_file.file import read_model_file
from differnet_runtime.model_file.metadata import (
    Calibration,
    ModelMetadata,
    Provenance,
    packed_hashes,
)
from tests.command_line import differnet

TrainedOn = Callable[..., Provenance]
Make = Callable[..., Path]
Captured = pytest.CaptureFixture[str]


def calibrate(model: Path, images: Path, *options: object) -> int:
    return differnet("calibrate", model, "--images", images, *options)


def test_the_model_gets_the_threshold_of_the_new_pictures(
    tiny_model: Make, pictures: Make, capsys: Captured, metadata: ModelMetadata
) -> None:
    model = tiny_model(calibration=None)
    graph = onnx.load(model).graph
    assert calibrate(model, pictures(*range(40, 80)), "--false-reject-rate", 0.1) == 0
    assert "Threshold 76.01 from 40 good images" in capsys.readouterr().out
    _, read = read_model_file(model)
    assert onnx.load(model).graph == graph
    assert read.calibration is not None
    assert read.calibration.scored_by == "onnxruntime-cpu"
    assert read.calibration.images == 40
    unknown = {"calibration": None, "appearance": None, "picture_sizes": None}
    assert read.replaced(**unknown) == metadata.replaced(calibration=None)
    with Detector(model) as detector:
        assert detector(np.full((32, 32, 3), 76, np.uint8)).threshold == pytest.approx(76, rel=2e-4)


def test_the_model_learns_how_the_new_pictures_look(tiny_model: Make, pictures: Make) -> None:
    model = tiny_model()
    assert calibrate(model, pictures(*range(40, 80))) == 0
    appearance = read_model_file(model)[1].appearance
    assert appearance is not None
    assert appearance.images == 40
    assert 20 < appearance.darkest < 40
    assert 79 < appearance.brightest < 110
    assert appearance.softest > 0


def test_the_model_learns_the_sizes_of_the_new_pictures(tiny_model: Make, pictures: Make) -> None:
    model = tiny_model(picture_sizes=PictureSizes.of([(640, 480)]))
    assert calibrate(model, pictures(*range(40, 80))) == 0
    known = read_model_file(model)[1].picture_sizes
    assert known is not None
    assert set(known.sizes) == {(640, 480), (32, 32)}


def test_what_surely_is_no_good_part_is_refused_by_name(
    tiny_model: Make, pictures: Make, capsys: Captured
) -> None:
    folder = pictures(*range(60, 100))
    cv2.imwrite(str(folder / "lamp.png"), np.zeros((32, 32, 3), np.uint8))
    model = tiny_model()
    before = model.read_bytes()
    assert calibrate(model, folder) == 2
    shown = capsys.readouterr().err
    assert "1 of 41 pictures show no good part:\n  lamp.png: constant" in shown
    assert model.read_bytes() == before


def test_of_each_part_the_highest_score_counts(
    tiny_model: Make, pictures: Make, capsys: Captured
) -> None:
    folder = pictures(*range(60, 85))
    for k in range(25):
        again = cv2.imread(str(folder / f"{k:03d}.png")) + np.uint8(20)
        cv2.imwrite(str(folder / f"{k:03d}_again.png"), again)
    assert calibrate(tiny_model(), folder, "--json") == 0
    shown = capsys.readouterr()
    assert "50 pictures of 25 different parts" in shown.err
    assert json.loads(shown.out)["good_scores"] == [float(k) for k in range(80, 105)]


def test_the_default_rate_is_5_percent(tiny_model: Make, pictures: Make, capsys: Captured) -> None:
    assert calibrate(tiny_model(), pictures(*range(19)), "--json") == 0
    calibration = Calibration.model_validate_json(capsys.readouterr().out)
    assert calibration.false_reject_rate == 0.05
    assert calibration.threshold == pytest.approx(18.0 * (1 + HEADROOM))


def test_another_output_leaves_the_model_as_it_is(
    tiny_model: Make, pictures: Make, tmp_path: Path
) -> None:
    model, other = tiny_model(), tmp_path / "other.onnx"
    before = model.read_bytes()
    assert calibrate(model, pictures(*range(19)), "--output", other) == 0
    assert model.read_bytes() == before
    calibration = read_model_file(other)[1].calibration
    assert calibration
    assert calibration.threshold == pytest.approx(18.0 * (1 + HEADROOM))


def test_unreadable_pictures_are_all_listed_and_nothing_is_changed(
    tiny_model: Make, pictures: Make, capsys: Captured
) -> None:
    folder = pictures(*range(25))
    (folder / "003.png").write_bytes(b"")
    (folder / "004.png").write_bytes(b"text")
    model = tiny_model()
    before = model.read_bytes()
    assert calibrate(model, folder) == 2
    shown = capsys.readouterr().err
    assert "2 of 25 pictures can't be used" in shown
    assert "003.png: the file is empty" in shown
    assert "004.png: not a picture" in shown
    assert "--skip-unreadable" in shown
    assert model.read_bytes() == before


def test_unreadable_pictures_can_be_left_out(
    tiny_model: Make, pictures: Make, capsys: Captured
) -> None:
    folder = pictures(*range(25))
    (folder / "003.png").write_bytes(b"")
    assert calibrate(tiny_model(), folder, "--skip-unreadable", "--json") == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out)["images"] == 24
    assert "left out: " in shown.err
    assert "003.png: the file is empty" in shown.err


def test_leaving_out_can_leave_too_few(tiny_model: Make, pictures: Make, capsys: Captured) -> None:
    folder = pictures(*range(19))
    (folder / "003.png").write_bytes(b"")
    assert calibrate(tiny_model(), folder, "--skip-unreadable") == 2
    assert "needs at least 19 good images for calibration; there are 18" in capsys.readouterr().err


def test_copies_are_refused_by_name(tiny_model: Make, pictures: Make, capsys: Captured) -> None:
    folder = pictures(*range(25))
    (folder / "copy.png").write_bytes((folder / "007.png").read_bytes())
    assert calibrate(tiny_model(), folder) == 2
    assert "007.png = copy.png" in capsys.readouterr().err


@pytest.fixture
def trained_on(metadata: ModelMetadata) -> TrainedOn:
    """Returns a function that makes the provenance of a model trained on some pictures."""

    def make(*paths: Path) -> Provenance:
        digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]
        return metadata.provenance.model_copy(update={"pictures": packed_hashes(digests)})

    return make


def test_pictures_that_the_model_was_trained_on_are_left_out_by_name(
    tiny_model: Make, pictures: Make, trained_on: TrainedOn, capsys: Captured
) -> None:
    """Under another name, too: the file's content tells."""
    folder = pictures(*range(25))
    old = folder / "000.png", folder / "001.png"
    model = tiny_model(provenance=trained_on(*old))
    old[1].rename(folder / "renamed.png")
    assert calibrate(model, folder, "--json") == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out)["good_scores"] == list(map(float, range(2, 25)))
    assert "left out: 2 of 25 pictures, which the model was trained on" in shown.err
    assert ": 000.png, renamed.png\n" in shown.err


def test_new_pictures_alone_must_be_enough(
    tiny_model: Make, pictures: Make, trained_on: TrainedOn, capsys: Captured
) -> None:
    folder = pictures(*range(25))
    model = tiny_model(provenance=trained_on(*sorted(folder.iterdir())[:7]))
    before = model.read_bytes()
    assert calibrate(model, folder) == 2
    shown = capsys.readouterr().err
    assert "left out: 7 of 25 pictures" in shown
    assert "needs at least 19 good images for calibration; there are 18" in shown
    assert model.read_bytes() == before


def test_a_model_that_does_not_know_its_pictures_says_so(
    tiny_model: Make, pictures: Make, capsys: Captured
) -> None:
    assert calibrate(tiny_model(), pictures(*range(25))) == 0
    assert "does not say which pictures it was trained on" in capsys.readouterr().err


def test_more_above_the_threshold_than_chance_explains_stops(
    tiny_model: Make, pictures: Make, capsys: Captured
) -> None:
    """The present threshold, 118, was set for 10 % by 20 pictures."""
    model = tiny_model()
    before = model.read_bytes()
    folder = pictures(*range(50, 80), *range(119, 149))
    assert calibrate(model, folder) == 2
    assert (
        "30 of 60 pictures are above the present threshold of 118; by chance at most 19: are these "
        "good parts? The highest: 059.png, 058.png, 057.png, 056.png, 055.png."
    ) in capsys.readouterr().err
    assert model.read_bytes() == before
    assert calibrate(model, folder, "--force") == 0
    calibration = read_model_file(model)[1].calibration
    assert calibration
    assert calibration.threshold == pytest.approx(146.0 * (1 + HEADROOM))


def test_as_many_above_the_threshold_as_chance_explains_go_on(
    tiny_model: Make, pictures: Make
) -> None:
    assert calibrate(tiny_model(), pictures(*range(50, 91), *range(119, 138))) == 0


def test_a_first_threshold_has_nothing_to_be_compared_with(
    tiny_model: Make, pictures: Make
) -> None:
    assert calibrate(tiny_model(calibration=None), pictures(*range(200, 230))) == 0


def test_scores_that_are_no_numbers_name_the_pictures(
    tiny_model: Make, pictures: Make, capsys: Captured
) -> None:
    assert calibrate(tiny_model(factor=math.nan), pictures(*range(25))) == 2
    shown = capsys.readouterr().err
    assert "the scores of 000.png, 001.png" in shown
    assert "and 15 more are not finite" in shown


@pytest.mark.parametrize(
    ("count", "options", "message"),
    [
        (5, [], "needs at least 19 good images for calibration; there are 5"),
        (0, [], "holds no pictures"),
        (25, ["--false-reject-rate", "1"], "'1' is not a share above 0 and below 1"),
        (25, ["--backend", "tpu"], "there is no backend 'tpu'"),
        (25, ["--images", "nowhere"], "No such file"),
        (25, ["--output", "/dev/null/part.onnx"], "/dev/null/part.onnx"),
    ],
)
def test_what_can_not_be_promised_is_refused(
    count: int, options: list[str], message: str, tiny_model: Make, pictures: Make, capsys: Captured
) -> None:
    assert calibrate(tiny_model(), pictures(*range(count)), *options) == 2
    assert message in capsys.readouterr().err


def test_the_exported_file_scores_as_it_will_at_the_camera(
    tiny_model: Make, pictures: Make, capsys: Captured
) -> None:
    """Every calibration picture but the promised share passes `differnet run` afterwards."""
    model, folder = tiny_model(), pictures(*range(40, 80))
    calibrate(model, folder, "--false-reject-rate", 0.1)
    capsys.readouterr()
    main(["run", "--model", str(model), "--source", str(folder)])
    assert "40 frames: 37 GOOD, 3 DEFECT" in capsys.readouterr().err
