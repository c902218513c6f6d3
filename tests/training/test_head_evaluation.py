"""Three heads evaluated: each beside its Gaussian, refitted under other seeds, in the report."""

import base64
import re

import cv2
import numpy as np
import pytest

from differnet_runtime.model_file.contract import InputContract
from differnet_training import page
from differnet_training.evaluation import evaluate
from differnet_training.head_evaluation import start_model
from differnet_training.job import TrainingSettings
from differnet_training.learning import learn
from differnet_training.model import load_metadata, load_model, read_training
from differnet_training.report import write_report
from tests.conftest import HEADED, Trained, every_epoch_kept

CHARTS = (page.histogram, page.roc_curves, page.comparison)


@pytest.fixture(scope="module")
def wide(headed, tmp_path_factory) -> Trained:
    """A model whose input is not square."""
    folder = tmp_path_factory.mktemp("wide") / "model"
    job = TrainingSettings(
        data=headed.data,
        recipe=HEADED,
        contract=InputContract(height=64, width=128),
        output=folder,
        cache=headed.cache,
        false_reject_rate=0.1,
    )
    with every_epoch_kept():
        learn(job)
    return Trained(folder, headed.data, headed.cache, headed.source)


@pytest.fixture(scope="module")
def report(wide):
    return evaluate(wide.folder, wide.data, cache=wide.cache)


def test_the_flow_that_was_trained_has_its_epochs(headed):
    heads = {head.name: head for head in load_metadata(headed.folder).heads}
    assert heads["coarse"].epochs == HEADED.epochs
    assert (heads["whole"].epochs, heads["fine"].epochs) == (0, 0)
    record = read_training(headed.folder)["history"]["heads"]
    assert len(record["coarse"]["held_out"]) == HEADED.epochs + 1


def test_every_picture_says_which_head_decided(report):
    assert report.image_auroc.value > 0.8
    decided = [result.head for result in report.results]
    rows = {row.name: row for row in report.heads}
    assert list(rows) == ["whole", "coarse", "fine", "joined"]
    for name in ("whole", "coarse", "fine"):
        assert rows[name].decided == decided.count(name)
    assert rows["joined"].decided == len(decided) == 24
    assert rows["joined"].image_auroc == report.image_auroc.value
    assert rows["whole"].image_auroc == rows["whole"].start_auroc  # it has no flow


def test_the_start_is_the_model_without_its_flows(headed):
    model, metadata = load_model(headed.folder)
    start = start_model(model, read_training(headed.folder))
    assert all(head.flow.blocks == 0 for head in start.heads)
    values = np.random.RandomState(0).rand(5, sum(model.reader.sizes)).astype(np.float32)
    now, begun = model.judge_features(values), start.judge_features(values)
    changed = [head.flow.blocks > 0 for head in metadata.heads]
    differs = np.abs(now.heads - begun.heads).max(axis=0) > 1e-6 * now.heads.max(axis=0)
    assert differs.tolist() == changed == [False, True, False]


def test_the_models_own_seed_gives_the_models_own_auroc(wide, report):
    with every_epoch_kept():
        found = evaluate(wide.folder, wide.data, cache=wide.cache, seeds=2).seeds
    assert found.seeds == (0, 1)
    assert found.aurocs[0] == report.image_auroc.value


def test_training_twice_gives_the_same_bits(wide, tmp_path):
    first = load_metadata(wide.folder)
    job = TrainingSettings(
        data=wide.data,
        recipe=HEADED,
        contract=first.input,
        output=tmp_path / "model",
        cache=wide.cache,
        false_reject_rate=0.1,
    )
    with every_epoch_kept():
        again = learn(job)
    assert again.weights_sha256 == first.weights_sha256
    assert again.calibration == first.calibration
    assert again.heads == first.heads


def test_the_report_shows_heads_and_pictures_of_the_cameras_shape(report, tmp_path):
    write_report(report, tmp_path)
    page = (tmp_path / "report.html").read_text()
    found = re.findall(r"data:image/jpeg;base64,([A-Za-z0-9+/=]+)", page)
    assert found
    for data in found:
        image = cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR)
        assert image.shape == (64, 64, 3)
    assert report.earns_its_place in page.replace("&#39;", "'")


@pytest.mark.parametrize("chart", CHARTS, ids=lambda chart: chart.__name__)
def test_every_chart_can_be_drawn(report, chart):
    assert "<svg" in chart(report)


def test_heatmaps_have_the_inputs_shape(wide, tmp_path):
    found = evaluate(wide.folder, wide.data, cache=wide.cache, heatmaps=tmp_path).localization
    assert found.drawn == 12
    for path in tmp_path.glob("*.png"):
        assert cv2.imread(str(path)).shape == (64, 2 * 128, 3)
