"""Evaluation: right numbers, honest refusals, and test data that chooses nothing."""

import json
import shutil
from dataclasses import replace

import cv2
import numpy as np
import pytest

from differnet_runtime.errors import DataError, ModelFileError, TrainingError
from differnet_runtime.images import write_image
from differnet_runtime.model_file.contract import InputContract
from differnet_training.datasets import ImageFile, Label
from differnet_training.evaluation import evaluate
from differnet_training.job import TrainingSettings
from differnet_training.learning import learn
from differnet_training.model import BASELINES, TRAINING_JSON, load_metadata
from tests.conftest import TINY
from tests.drawn import draw_part, write_parts


@pytest.fixture(scope="module")
def report(trained):
    return evaluate(trained.folder, trained.data, cache=trained.cache)


def relabelled(data, label, kind):
    """The data set whose last four defects are labelled otherwise."""
    changed = [replace(picture, label=label, kind=kind) for picture in data.test[-4:]]
    return replace(data, test=(*data.test[:-4], *changed))


def copied(trained, tmp_path, *, without):
    folder = tmp_path / "model"
    shutil.copytree(trained.folder, folder)
    for name in without:
        (folder / name).unlink()
    return folder


def test_the_figures_are_those_of_the_listed_pictures(report, trained):
    threshold = load_metadata(trained.folder).calibration.threshold
    good = [r for r in report.results if r.label == "good"]
    defect = [r for r in report.results if r.label == "defect"]
    assert (report.good, report.defect) == (len(good), len(defect)) == (12, 12)
    assert report.threshold == threshold
    assert report.false_reject.count == sum(r.score > threshold for r in good)
    assert report.miss.count == sum(r.score <= threshold for r in defect)
    above = np.array([[d.score > g.score for g in good] for d in defect])
    assert report.image_auroc.value == pytest.approx(above.mean())
    assert {r.verdict for r in report.results} <= {"GOOD", "DEFECT"}
    assert all((r.verdict == "DEFECT") == (r.score > threshold) for r in report.results)


def test_the_report_is_json(report):
    dumped = report.model_dump(mode="json")
    assert set(dumped["image_auroc"]) == {"value", "low", "high", "confidence"}
    assert set(dumped["miss"]) == {"value", "low", "high", "confidence", "count", "of"}
    assert type(report).model_validate(dumped) == report


def test_without_a_measured_time_no_machine_is_named(report):
    assert (report.latency_ms, report.machine) == (None, None)


def test_evaluating_twice_gives_the_same(report, trained):
    assert evaluate(trained.folder, trained.data, cache=None) == report


def test_the_baselines_are_judged_on_the_same_pictures(report):
    assert set(report.baselines) == {"gaussian", "nearest_neighbour"}
    assert all(len(values) == 24 for values in report.baseline_scores.values())
    expected = report.image_auroc.value - report.baselines["gaussian"].value
    assert report.minus_gaussian.value == pytest.approx(expected)
    assert "Gaussian" in report.earns_its_place


def test_defects_are_told_apart_by_kind(trained):
    data = relabelled(trained.data, Label.DEFECT, "dent")
    rows = {
        row.kind: row.images for row in evaluate(trained.folder, data, cache=trained.cache).kinds
    }
    assert rows == {"dent": 4, "scratch": 8}


def test_uncertain_pictures_are_reported_and_count_for_nothing(trained):
    data = relabelled(trained.data, Label.UNCERTAIN, "probability 0.33")
    without = replace(data, test=data.test[:-4])
    found = evaluate(trained.folder, data, cache=trained.cache)
    bare = evaluate(trained.folder, without, cache=trained.cache)
    (row,) = found.uncertain
    assert (row.kind, row.images, row.rejected.of) == ("probability 0.33", 4, 4)
    for name in ("image_auroc", "image_aupr", "false_reject", "miss", "kinds", "minus_gaussian"):
        assert getattr(found, name) == getattr(bare, name)


def test_scores_of_the_exported_file_replace_torchs(trained):
    pictures = trained.data.test
    scores = {p.path: 1.0 if p.label is Label.GOOD else 1e9 for p in pictures}
    found = evaluate(
        trained.folder,
        trained.data,
        cache=trained.cache,
        scores=scores,
        latency_ms=[1.0, 2.0, 3.0],
        scored_by="part.onnx",
    )
    assert found.image_auroc.value == 1.0
    assert (found.miss.count, found.false_reject.count) == (0, 0)
    assert found.scored_by == "part.onnx"
    assert found.latency_ms["p50"] == 2.0
    assert found.latency_ms["p99"] == pytest.approx(2.98)
    assert {"processor", "cores", "python", "numpy"} <= set(found.machine)


@pytest.mark.parametrize("score", [np.nan, np.inf, -np.inf, None])
def test_a_picture_without_a_finite_score_is_rejected_and_counted(trained, score):
    scores = {p.path: 1.0 for p in trained.data.test}
    first_good = trained.data.test[0]
    del scores[first_good.path]
    if score is not None:
        scores[first_good.path] = score
    found = evaluate(trained.folder, trained.data, cache=trained.cache, scores=scores)
    assert found.no_decision == 1
    assert (found.false_reject.count, found.miss.count) == (1, 12)
    assert found.results[0].verdict == "NO_DECISION"
    assert found.results[0].score is None
    assert found.results[0].code == "not_finite"


def faulty(trained, tmp_path):
    """The data with pictures that a camera would have refused, and their codes by name."""
    pictures = {
        "black": np.zeros((64, 64, 3), np.uint8),
        "blown_out": np.full((64, 64, 3), 255, np.uint8),
        "blurred": cv2.GaussianBlur(draw_part(901), (0, 0), 8.0),
        "wrong_size": draw_part(902, size=100),
    }
    for name, picture in pictures.items():
        write_image(tmp_path / f"{name}.png", picture)
    more = [
        ImageFile(tmp_path / f"{name}.png", label, label.value)
        for label, name in zip([Label.GOOD, Label.DEFECT] * 2, pictures, strict=True)
    ]
    return replace(trained.data, test=(*trained.data.test, *more)), list(pictures)


def test_what_a_camera_would_refuse_is_rejected_and_keeps_its_score(trained, tmp_path):
    data, codes = faulty(trained, tmp_path)
    found = evaluate(trained.folder, data, cache=trained.cache)
    plain = evaluate(trained.folder, trained.data, cache=trained.cache)
    results = found.results[-4:]
    assert [r.code for r in results] == codes
    assert {r.verdict for r in results} == {"NO_DECISION"}
    assert all(r.score is not None for r in results)
    assert (found.no_decision, found.undecided.good, found.undecided.defect) == (4, 2, 2)
    assert found.undecided.codes == dict.fromkeys(codes, 1)
    assert found.false_reject.count == plain.false_reject.count + 2
    assert (found.miss.count, found.miss.of) == (plain.miss.count, plain.miss.of + 2)
    good, defect = (
        [r.score for r in found.results if r.label == label] for label in ("good", "defect")
    )
    above = np.array([[d > g for g in good] for d in defect])
    assert found.image_auroc.value == pytest.approx(above.mean())


def test_no_threshold_accepts_what_a_camera_would_refuse(trained, tmp_path):
    data, _ = faulty(trained, tmp_path)
    highest = evaluate(trained.folder, data, cache=trained.cache).operating_points[-1]
    assert (highest.false_rejects, highest.misses) == (2, 12)


@pytest.mark.parametrize("part", ["train", "stopping", "calibration"])
def test_a_picture_that_the_model_knows_is_refused_by_name(trained, tmp_path, part):
    from differnet_training.model import read_training

    known = read_training(trained.folder)["parts"][part][0]["path"]
    copy = tmp_path / "renamed.png"
    shutil.copyfile(known, copy)
    data = replace(trained.data, test=(*trained.data.test, ImageFile(copy)))
    with pytest.raises(
        DataError, match=r"1 test pictures were used in training(.|\n)*renamed\.png"
    ):
        evaluate(trained.folder, data, cache=trained.cache)


def test_no_test_pictures_are_refused(trained):
    with pytest.raises(DataError, match="no pictures"):
        evaluate(trained.folder, replace(trained.data, test=()), cache=trained.cache)


def test_an_unreadable_picture_is_named_or_left_out(trained, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    data = replace(trained.data, test=(*trained.data.test, ImageFile(broken)))
    with pytest.raises(DataError, match=r"broken\.png(.|\n)*--skip-unreadable"):
        evaluate(trained.folder, data, cache=trained.cache)
    found = evaluate(trained.folder, data, cache=trained.cache, skip_unreadable=True)
    assert found.good == 12


def test_a_folder_without_a_model_is_refused(trained, tmp_path):
    with pytest.raises(ModelFileError, match="holds no trained model"):
        evaluate(tmp_path, trained.data, cache=None)


def test_a_model_without_baselines_says_so(trained, tmp_path):
    folder = copied(trained, tmp_path, without=[BASELINES])
    found = evaluate(folder, trained.data, cache=trained.cache)
    assert found.baselines is None
    assert found.minus_gaussian is None
    assert "No baselines" in found.earns_its_place


def test_seeds_show_the_spread(trained):
    found = evaluate(trained.folder, trained.data, cache=trained.cache, seeds=2).seeds
    assert found.seeds == (0, 1)
    assert found.mean == pytest.approx(np.mean(found.aurocs))
    assert found.standard_deviation == pytest.approx(np.std(found.aurocs, ddof=1))


def test_the_models_own_seed_gives_the_models_own_auroc(report, trained):
    found = evaluate(trained.folder, trained.data, cache=trained.cache, seeds=2).seeds
    assert found.aurocs[0] == report.image_auroc.value


@pytest.mark.parametrize("rotation", ["random", "random-fresh"])
def test_seeds_draw_other_rotations_where_training_drew_them(trained, tmp_path, rotation):
    changes = {"rotation": rotation, "draws": 2, "test_views": 2, "epochs": 2, "patience": None}
    learn(
        TrainingSettings(
            data=trained.data,
            recipe=TINY.model_copy(update=changes),
            contract=InputContract(size=64),
            output=tmp_path / "model",
            cache=trained.cache,
            seed=3,
            false_reject_rate=0.1,
        )
    )
    found = evaluate(tmp_path / "model", trained.data, cache=trained.cache, seeds=3)
    assert found.seeds.seeds == (3, 4, 5)
    assert found.seeds.aurocs[0] == found.image_auroc.value
    assert found.seeds.standard_deviation > 0


def test_seeds_need_a_record_of_the_training(trained, tmp_path):
    folder = copied(trained, tmp_path, without=[TRAINING_JSON])
    with pytest.raises(TrainingError, match="no record of its training"):
        evaluate(folder, trained.data, cache=trained.cache, seeds=2)


def test_seeds_need_the_training_pictures_where_they_were(trained, tmp_path):
    folder = copied(trained, tmp_path, without=[])
    record = folder / TRAINING_JSON
    record.write_text(record.read_text().replace("/rings/", "/gone/"))
    with pytest.raises(TrainingError, match=r"\d+ are gone"):
        evaluate(folder, trained.data, cache=trained.cache, seeds=2)


def test_the_test_pictures_choose_nothing(trained, tmp_path):
    """Other test pictures change neither the threshold nor any other picture's score."""
    write_parts(tmp_path / "more", 6, first=900, defect=True)
    more = tuple(
        ImageFile(path, Label.DEFECT, "more") for path in sorted((tmp_path / "more").iterdir())
    )
    alone = evaluate(trained.folder, trained.data, cache=trained.cache)
    data = replace(trained.data, test=(*more, *trained.data.test))
    together = evaluate(trained.folder, data, cache=trained.cache)
    assert together.threshold == alone.threshold
    assert together.results[6:] == alone.results


def test_the_exported_files_own_threshold_counts(trained):
    calibration = load_metadata(trained.folder).calibration.model_copy(update={"threshold": 1e9})
    found = evaluate(trained.folder, trained.data, cache=trained.cache, calibration=calibration)
    assert found.threshold == 1e9
    assert found.miss.count == found.defect
    assert "1e+09" in found.calibration


@pytest.mark.parametrize("seeds", [0, -3])
def test_seeds_below_one_are_refused(trained, seeds):
    with pytest.raises(DataError, match=f"from 1 on; received {seeds}"):
        evaluate(trained.folder, trained.data, cache=trained.cache, seeds=seeds)


def test_seeds_need_the_training_pictures_as_they_were(trained, tmp_path):
    folder = copied(trained, tmp_path, without=[])
    text = (folder / TRAINING_JSON).read_text()
    first = json.loads(text)["parts"]["train"][0]
    (folder / TRAINING_JSON).write_text(text.replace(first["sha256"], "0" * 64))
    with pytest.raises(TrainingError, match=r"1 have changed, the first: .*part\d+\.png"):
        evaluate(folder, trained.data, cache=trained.cache, seeds=2)
