"""Evaluation with one class alone, at other thresholds, and with costs."""

import hashlib
import json
import shutil
from dataclasses import replace

import pytest

from differnet_runtime.errors import DataError
from differnet_runtime.inspection.operating_points import Costs
from differnet_training.datasets import Label
from differnet_training.evaluation import evaluate, without_trained
from differnet_training.report import summary_table, write_report


@pytest.fixture(scope="module")
def report(trained):
    return evaluate(trained.folder, trained.data, cache=trained.cache)


def alone(trained, label):
    return replace(trained.data, test=tuple(p for p in trained.data.test if p.label is label))


def test_good_parts_alone_give_false_rejects(trained, report, tmp_path):
    found = evaluate(trained.folder, alone(trained, Label.GOOD), cache=trained.cache)
    assert found.false_reject == report.false_reject
    assert (found.miss, found.image_auroc, found.image_aupr, found.baselines) == (None,) * 4
    assert all(point.misses == 0 for point in found.operating_points)
    write_report(found, tmp_path)
    text = (tmp_path / "report.html").read_text()
    assert "good parts rejected" in text
    assert "defects missed" not in text
    assert "image AUROC" not in summary_table(found)


def test_defects_alone_give_misses(trained, report, tmp_path):
    found = evaluate(trained.folder, alone(trained, Label.DEFECT), cache=trained.cache)
    assert found.miss == report.miss
    assert (found.false_reject, found.image_auroc) == (None, None)
    assert [row.image_auroc for row in found.kinds] == [None]
    write_report(found, tmp_path)
    assert "defects missed" in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize(
    ("options", "named"),
    [({"seeds": 2}, "--seeds"), ({"costs": Costs(miss=1, reject=1)}, "--cost-miss")],
)
def test_what_compares_needs_both(trained, options, named):
    with pytest.raises(DataError, match=f"{named}.* needs good and defective parts"):
        evaluate(trained.folder, alone(trained, Label.GOOD), cache=trained.cache, **options)


def test_another_threshold_gives_other_verdicts_and_keeps_the_models(trained, report):
    found = evaluate(trained.folder, trained.data, cache=trained.cache, threshold=1e9)
    assert (found.false_reject.count, found.miss.count) == (0, 12)
    assert {result.verdict for result in found.results} == {"GOOD"}
    assert (found.threshold, found.model_threshold) == (1e9, report.threshold)
    assert found.model.calibration == report.model.calibration
    assert "as given (the model's own:" in summary_table(found)
    assert found.image_auroc == report.image_auroc


def test_the_points_agree_with_the_verdicts(trained, report):
    (now,) = (p for p in report.operating_points if p.threshold == report.threshold)
    assert (now.false_rejects, now.misses) == (report.false_reject.count, report.miss.count)
    assert (now.cost, report.costs, report.cheapest) == (None, None, None)
    costs = Costs(miss=50, reject=1, defect_share=0.02)
    found = evaluate(trained.folder, trained.data, cache=trained.cache, costs=costs)
    assert found.cheapest.cost == min(point.cost for point in found.operating_points)
    assert "if 2 % are defective" in summary_table(found)


def test_an_undivided_folder_is_judged_without_what_the_model_learned_from(trained, report):
    learned = trained.data.good[:30]
    data = replace(trained.data, test=(*learned, *trained.data.test), undivided=True)
    found = evaluate(trained.folder, data, cache=trained.cache)
    assert found.note == "30 good pictures that the model learned from were left out."
    assert found.results == report.results
    with pytest.raises(DataError, match="learned from all 30 pictures"):
        evaluate(trained.folder, replace(data, test=learned), cache=trained.cache)


def test_without_a_threshold_the_cheapest_is_still_named(trained, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(trained.folder, folder)
    record = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps({**record, "calibration": None}))
    costs = Costs(miss=50, reject=1)
    found = evaluate(folder, trained.data, cache=trained.cache, costs=costs)
    table = summary_table(found)
    assert f"threshold {found.cheapest.threshold!r}: " in table
    assert "for 1,000 parts, if 1 % are defective, with" in table
    assert "expected cost" not in table
    write_report(found, tmp_path)
    assert "cheapest</span>" in (tmp_path / "report.html").read_text()


def test_good_pictures_that_training_left_out_as_doubtful_are_no_test_of_the_model(trained):
    """Judging them as unseen good parts would make false rejects of what was refused before."""
    good = next(one for one in trained.data.test if one.label is Label.GOOD)
    digest = hashlib.sha256(good.path.read_bytes()).hexdigest()
    learned = {"parts": {"train": [{"path": "gone.png", "sha256": "0" * 64}]}}
    data = replace(trained.data, undivided=True)
    for left_out in (True, False):
        finding = {"path": str(good.path), "sha256": digest, "left_out": left_out}
        found = without_trained(data, {**learned, "look": {"findings": [finding]}})
        assert (good not in found.test) is left_out
        assert ("1 that training had left out as doubtful" in found.note) is left_out
