"""The report's first section: the good pictures to look at."""

from pathlib import Path

import pytest

from differnet_training.evaluation import evaluate
from differnet_training.model import load_metadata, read_training
from differnet_training.report import LOOK_HTML, look_section, write_report
from tests.drawn import write_parts


@pytest.fixture(scope="module")
def look(headed) -> dict:
    return read_training(headed.folder)["look"]


def test_the_section_comes_before_every_figure(headed, tmp_path):
    report = evaluate(headed.folder, headed.data, cache=headed.cache)
    text = write_report(report, tmp_path).read_text()
    assert text.index("Look at these") < text.index("image AUROC")
    assert report.look == read_training(headed.folder)["look"]


def test_training_leaves_the_section_as_a_page(headed):
    text = (headed.folder / LOOK_HTML).read_text()
    assert "Look at these" in text
    assert "{{" not in text


def test_the_strangest_come_first_and_each_has_its_threshold(headed, look):
    kept = [one["score"] for one in look["strangest"] if not one["left_out"]]
    assert kept == sorted(kept, reverse=True)
    calibration = load_metadata(headed.folder).calibration
    assert max(kept) == pytest.approx(calibration.good_scores[-1])
    without = [one["threshold"] for one in look["strangest"] if not one["left_out"]]
    assert without[0] < calibration.threshold
    assert look["pictures"] == look["different_parts"] == calibration.images


def test_findings_are_shown_with_their_cause(headed, look, tmp_path):
    (path,) = write_parts(tmp_path, 1)
    finding = {"path": str(path), "cause": "blurred", "detail": "soft", "left_out": True}
    gone = {**finding, "path": str(Path(tmp_path) / "gone.png"), "left_out": False}
    ((_, found),) = look_section(
        {**look, "findings": [finding, gone]}, load_metadata(headed.folder)
    )
    assert found["left_out"] == 1
    first, second = found["findings"]
    assert (first.caption, second.caption) == (
        (path.name, "blurred, left out: soft"),
        ("gone.png", "blurred: soft"),
    )
    assert first.picture.startswith("data:image/jpeg;base64,")
    assert second.picture is None


def test_a_model_that_was_trained_without_a_look_has_no_section(headed):
    assert look_section({}, load_metadata(headed.folder)) == []
