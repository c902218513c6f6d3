"""What docs/python.md shows: the functions behind the commands, found where people look."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path
from typing import get_type_hints

import pytest

import differnet_export
import differnet_runtime
import differnet_training
from differnet_runtime import Detector, DifferNetError, Verdict, decide
from differnet_runtime.images import list_images, read_image
from differnet_training import evaluate, train
from tests.conftest import HEADED, Trained, every_epoch_kept

PUBLIC = [
    (differnet_export, "export"),
    (differnet_runtime, "Detector"),
    (differnet_runtime, "decide"),
    (differnet_training, "evaluate"),
    (differnet_training, "train"),
]


@pytest.mark.parametrize(("package", "name"), PUBLIC)
def test_it_is_listed_and_says_what_it_does(package: object, name: str) -> None:
    assert name in dir(package)
    found = getattr(package, name)
    text = inspect.getdoc(found) or ""
    call = found.__init__ if inspect.isclass(found) else found
    hints = get_type_hints(call)
    for parameter in inspect.signature(found).parameters:
        assert f"    {parameter}: " in text, f"{name} does not say what {parameter} is"
        assert parameter in hints
    assert "return" in hints


@pytest.mark.parametrize("package", [differnet_export, differnet_runtime, differnet_training])
def test_a_name_that_is_not_there_is_an_attribute_error(package: object) -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        package.no_such_name  # noqa: B018


def test_importing_the_packages_imports_no_torch() -> None:
    probe = (
        "import sys, differnet_runtime, differnet_training, differnet_export;"
        "dir(differnet_training), dir(differnet_export);"
        "print([n for n in ('torch', 'onnx', 'cv2', 'pydantic') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_from_pictures_to_a_verdict(trained: Trained, tmp_path: Path) -> None:
    with every_epoch_kept():
        metadata = train(
            trained.source,
            tmp_path / "model",
            recipe=HEADED,
            size=(64, 64),
            false_reject_rate=0.1,
            cache=trained.cache,
        )
    report = evaluate(
        str(tmp_path / "model"), trained.source, output=tmp_path / "eval", cache=trained.cache
    )
    assert metadata.calibration is not None
    assert report.threshold == metadata.calibration.threshold
    assert (report.good, report.defect) == (12, 12)
    assert (tmp_path / "eval" / "report.html").is_file()


def test_an_exported_file_can_score_in_place_of_torch(exported: Path, trained: Trained) -> None:
    here = evaluate(trained.folder, trained.source, cache=trained.cache)
    there = evaluate(trained.folder, trained.source, onnx=str(exported), cache=trained.cache)
    assert there.scored_by == str(exported)
    assert [r.score for r in there.results] == pytest.approx([r.score for r in here.results])


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"recipe": "edg"}, "did you mean edge"),
        ({"groups": "("}, "not a regular expression"),
        ({"size": (60, 61)}, "60x61"),
    ],
)
def test_a_wrong_setting_is_refused_before_anything_is_written(
    settings: dict[str, object], said: str, trained: Trained, tmp_path: Path
) -> None:
    with pytest.raises(DifferNetError, match=said):
        train(trained.source, tmp_path / "model", **settings)
    assert not (tmp_path / "model").exists()


def test_a_finished_model_stays_unless_it_is_to_be_replaced(trained: Trained) -> None:
    with pytest.raises(DifferNetError, match="overwrite=True"):
        train(trained.source, trained.folder)


def test_heatmaps_need_a_folder(trained: Trained) -> None:
    with pytest.raises(DifferNetError, match="output=FOLDER"):
        evaluate(trained.folder, trained.source, heatmaps=True)


class TestDetector:
    def test_it_takes_paths_as_text_or_as_path(self, exported: Path, trained: Trained) -> None:
        picture = list_images(trained.source / "test" / "scratch")[0]
        with Detector(str(exported)) as detector:
            score = detector(read_image(picture))
            assert detector(picture).value == detector(str(picture)).value == score.value
        assert decide(score).verdict is Verdict.DEFECT

    def test_a_file_that_is_no_picture_is_named(self, exported: Path, tmp_path: Path) -> None:
        with Detector(exported) as detector, pytest.raises(DifferNetError, match=r"none\.png"):
            detector(tmp_path / "none.png")

    def test_a_model_that_was_not_exported_says_so(self, trained: Trained) -> None:
        with pytest.raises(DifferNetError, match="differnet export"):
            Detector(trained.folder)

    def test_a_grey_frame_is_a_frame(self, exported: Path, trained: Trained) -> None:
        with Detector(exported) as detector:
            result = detector(read_image(list_images(trained.source / "test" / "good")[0])[:, :, 0])
        assert result.finite


def test_every_name_that_the_runtime_exports_is_there() -> None:
    for name in differnet_runtime.__all__:
        assert getattr(differnet_runtime, name) is not None
