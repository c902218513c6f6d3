"""Advice: what was missed, and what may help, from the report alone."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from differnet_training.advice import advise
from differnet_training.datasets import Label
from differnet_training.evaluation import evaluate
from differnet_training.results import rate


@pytest.fixture(scope="module")
def report(trained):
    """A report on parts of which good ones have scores 1 to 12 and defects 7.5 to 18.5."""
    scores = {}
    for number, picture in enumerate(trained.data.test):
        position = number % 12
        scores[picture.path] = (1.0 if picture.label is Label.GOOD else 7.5) + position
    return evaluate(
        trained.folder, trained.data, cache=trained.cache, scores=scores, threshold=10.2
    )


def said(report, **changes):
    return " ".join(advise(report.model_copy(update=changes)))


def test_misses_come_first_and_a_lower_threshold_is_tried(report):
    first, *others = report.advice
    assert first == "3 of 12 defective parts were missed."
    assert "A lower threshold would help" in others[0]
    assert "misses 1 defect instead of 3" in others[0]
    assert "4 of 12 good parts rejected instead of 2" in others[0]
    assert "--false-reject-rate 0.34" in others[0]


def test_where_a_lower_threshold_does_not_help_it_says_so(report):
    points = tuple(
        point.model_copy(update={"misses": max(3, point.misses)})
        for point in report.operating_points
    )
    text = said(report, operating_points=points)
    assert "A lower threshold alone would not help" in text
    assert "3 of 12 defects would still be missed" in text


def test_few_pictures_are_said(report):
    learned = report.model.provenance.images
    assert f"learned from {learned} good pictures" in said(report)
    many = report.model.provenance.model_copy(update={"images": 500})
    model = report.model.model_copy(update={"provenance": many})
    assert "learned from" not in said(report, model=model)


def test_without_misses_there_is_nothing_to_do(report):
    (only,) = advise(report.model_copy(update={"miss": rate(0, 12)}))
    assert only.startswith("None of the 12 defective parts was missed (95 % interval")


def test_without_a_threshold_or_defects_it_says_what_is_not_known(report):
    assert "no threshold yet" in said(report, threshold=None)
    assert "nothing is known about misses" in said(report, miss=None)


def test_the_worst_kinds_are_named(report):
    row = report.kinds[0]
    kinds = [
        row.model_copy(update={"kind": kind, "images": 6, "rejected": rate(found, 6)})
        for kind, found in (("dent", 5), ("crack", 2), ("stain", 6))
    ]
    text = said(report, kinds=tuple(kinds))
    assert "4 of 6 of kind 'crack', 1 of 6 of kind 'dent'" in text
    assert "stain" not in text


def test_many_false_rejects_are_said_of_the_models_own_threshold_only(report):
    assert report.false_reject.count == 2
    many = {"false_reject": rate(9, 12), "miss": rate(0, 12)}
    assert "9 of 12 good parts were rejected, more than the 10.0%" in said(
        report, **many, threshold=report.model_threshold
    )
    assert "more than" not in said(report, **many)


def with_camera(report, tmp_path, side, defect=0):
    """The report, as if its first miss were a picture of `side` pixels with a defect marked."""
    picture = np.full((side, side, 3), 90, np.uint8)
    cv2.imwrite(str(tmp_path / "picture.png"), picture)
    changes = {"path": str(tmp_path / "picture.png")}
    if defect:
        mask = np.zeros((side, side), np.uint8)
        mask[:defect, :defect] = 255
        cv2.imwrite(str(tmp_path / "mask.png"), mask)
        changes["mask"] = str(tmp_path / "mask.png")
    results = tuple(
        r.model_copy(update=changes) if r.label == "defect" and r.verdict == "GOOD" else r
        for r in report.results
    )
    return report.model_copy(update={"results": results})


def in_windows(report):
    """The report, as if its model judged windows of 4 x 4 pixels of the 64 x 64."""
    from differnet_runtime.model_file.metadata import Windows

    model = report.model.model_copy(update={"windows": Windows(rows=16, columns=16)})
    return report.model_copy(update={"model": model})


@pytest.mark.parametrize(
    ("side", "defect", "expected"),
    [
        (
            128,
            0,
            ["2.0 x 2.0 of the camera's", "If the missed defects are small", "--size 128x128"],
        ),
        (128, 4, ["less than 2 x 2 pixels", "Train with a larger input", "--roi"]),
        (512, 8, ["8.0 x 8.0 of the camera's", "--tiles 1x1"]),
        (2048, 0, ["--tiles 5x5"]),
        (64, 2, ["less than 2 x 2 pixels", "closer lens"]),
        (64, 0, []),
        (128, 80, []),
    ],
)
def test_small_defects_want_more_pixels(report, tmp_path, side, defect, expected):
    text = said(in_windows(with_camera(report, tmp_path, side, defect)))
    for words in expected:
        assert words in text
    if not expected:
        assert "--size" not in text
        assert "--tiles" not in text
        assert "lens" not in text


def test_advice_is_not_needed_for_good_parts_alone(trained):
    good = tuple(p for p in trained.data.test if p.label is Label.GOOD)
    report = evaluate(trained.folder, replace(trained.data, test=good), cache=trained.cache)
    assert report.advice[0].startswith("No defective part was judged")
