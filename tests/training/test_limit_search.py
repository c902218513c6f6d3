"""What a model finds of painted defects: the search, what it judges by, what train says of it."""

import json
import re
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from differnet_runtime.cli import main
from differnet_runtime.model_file.contract import InputContract, Region
from differnet_training import head_learning, limit_search
from differnet_training.datasets import DataSet, open_data
from differnet_training.head_fitting import FOLDS, HeadData, fit_head, fold_of, made
from differnet_training.job import TrainingSettings
from differnet_training.learning import learn
from differnet_training.limit_search import measure_limits, read_canvas, sizes
from differnet_training.model import load_metadata
from tests.conftest import HEADED
from tests.drawn import write_circuits, write_parts

EVEN = 128


class DarkPixels:
    """Stands for reader and model: the score is the number of pixels darker by 30 or more."""

    def __init__(self, contract: InputContract, angles: tuple[float, ...] = (0.0,)) -> None:
        self.contract, self.views = contract, SimpleNamespace(angles=angles)
        self.images = 0

    def extract_views(self, images, angles) -> np.ndarray:
        self.images += len(images)
        return np.array([(image[:, :, 0] <= EVEN - 30).sum() for image in images], np.float32)

    def judge_features(self, features) -> SimpleNamespace:
        return SimpleNamespace(scores=features)


@pytest.fixture
def counted(tmp_path):
    """Measures with `DarkPixels` on even grey pictures; returns the limits and the stand-in."""

    def measure(threshold: float, levels=(EVEN,) * 6, contract=None, angles=(0.0,)):
        for k, level in enumerate(levels):
            cv2.imwrite(str(tmp_path / f"{k}.png"), np.full((96, 128, 3), level, np.uint8))
        stand_in = DarkPixels(contract or InputContract(height=96, width=128), angles)
        pictures = open_data(str(tmp_path)).good
        return measure_limits(stand_in, stand_in, pictures, threshold, seed=0), stand_in

    return measure


def of(limits, kind: str) -> dict:
    return {limit.contrast: limit.size for limit in limits.of(kind)}


class TestSearch:
    def test_it_finds_the_smallest_size_whose_area_exceeds_the_threshold(self, counted):
        for threshold in (20, 70, 300):
            painted = sizes(InputContract(height=96, width=128))
            smallest = next(size for size in painted if np.pi / 4 * size**2 > 1.1 * threshold)
            limits, _ = counted(threshold)
            assert of(limits, "dark_spot") == {20: None, 40: smallest, 80: smallest}
            assert of(limits, "bright_spot") == {20: None, 40: None, 80: None}

    def test_a_stronger_defect_is_never_found_later(self, counted):
        stain = of(counted(60)[0], "stain")
        assert stain[20] is None
        assert stain[80] < stain[40]

    def test_usable_means_that_a_defect_of_a_sensible_size_is_found(self, counted):
        assert counted(20)[0].usable
        limits, _ = counted(900)  # a third of the shorter side
        assert of(limits, "dark_spot")[80] > limits.sensible
        assert not limits.usable

    def test_pictures_that_are_rejected_as_they_are_tell_nothing(self, counted):
        limits, _ = counted(10, levels=(EVEN, 20, EVEN, 20, EVEN))
        assert limits.pictures == 3
        assert counted(10, levels=(20, 20, 20, 20, 20))[0] is None

    def test_what_the_pictures_have_no_room_for_is_not_painted(self, counted):
        limits, _ = counted(1e6, levels=(25,) * 4)
        painted = {limit.contrast: limit.painted for limit in limits.of("dark_spot")}
        assert painted == {20: 20, 40: 0, 80: 0}
        assert {limit.size for limit in limits.of("dark_spot")} == {None}

    def test_large_inputs_are_painted_less_often(self, counted):
        contract = InputContract(height=96, width=128)
        few = counted(20, contract=contract, angles=tuple(range(0, 360, 5)))[0]
        assert {limit.painted for limit in few.of("scratch")} == {10}

    def test_sizes_are_of_the_picture_too(self, counted):
        contract = InputContract(height=32, width=64, region=Region(x=0, y=0, width=128, height=96))
        limits, _ = counted(5, contract=contract)
        assert limits.picture_scale == pytest.approx(np.sqrt(6))
        limit = limits.of("dark_spot")[-1]
        assert limit.picture_size == round(limit.size * np.sqrt(6))

    def test_it_is_the_same_each_time(self, counted):
        assert counted(60)[0] == counted(60)[0]


def test_defects_keep_away_from_letterbox_bars(tmp_path):
    cv2.imwrite(str(tmp_path / "wide.png"), np.full((64, 256, 3), 200, np.uint8))
    picture = open_data(str(tmp_path)).good[0]
    canvas = read_canvas(picture, InputContract(height=128, width=128, fit="letterbox"))
    rows, columns = canvas.inside
    assert (canvas.image[rows, columns] == 200).all()
    assert rows.stop - rows.start == pytest.approx(0.8 * 32, abs=1)
    assert canvas.scale == 2


def test_the_head_without_the_last_fold_has_not_seen_it(one_thread):
    head = HEADED.heads[0].head(6, InputContract(height=64, width=64))
    values = np.random.RandomState(0).randn(20, 1, 12).astype(np.float32)
    fold = np.arange(20) % FOLDS
    changed = values + 5 * (fold == FOLDS - 1)[:, None, None].astype(np.float32)

    def fitted(rows):
        return fit_head(head, HeadData(rows, fold), HEADED, 0, lambda: None, made)

    first, second = fitted(values), fitted(changed)
    assert (first.without_last.matrix == second.without_last.matrix).all()
    assert (first.without_last.centre == second.without_last.centre).all()
    assert not (first.flow.centre == second.flow.centre).all()


@pytest.mark.parametrize("calibration", ["folds", "split"])
def test_it_paints_on_pictures_that_the_judge_has_not_seen(
    one_thread, trained, tmp_path, monkeypatch, calibration
):
    calls = []

    def recorded(model, reader, pictures, threshold, **options):
        calls.append((model, pictures, options.get("judged_by", "saved")))

    monkeypatch.setattr(head_learning, "measure_limits", recorded)
    folder = tmp_path / "model"
    job = TrainingSettings(
        data=DataSet("rings", trained.data.good),
        recipe=HEADED,
        contract=InputContract(height=64, width=64),
        output=folder,
        cache=trained.cache,
        false_reject_rate=0.2,
        calibration=calibration,
        detection_limits=True,
    )
    learn(job)
    record = json.loads((folder / "training.json").read_text())
    ((_, pictures, judged_by),) = calls
    paths = [str(picture.path) for picture in pictures]
    entries = [entry["path"] for entry in record["parts"]["train"]]
    if calibration == "split":
        assert judged_by == "saved"
        assert paths == [entry["path"] for entry in record["parts"]["calibration"]]
        assert not set(paths) & set(entries)
    else:
        fold = fold_of(record["groups"], 0)
        assert judged_by == "fold"
        assert paths == [e for e, f in zip(entries, fold, strict=True) if f == FOLDS - 1]


class TestTrain:
    @pytest.fixture(autouse=True)
    def few(self, monkeypatch):
        """Paints half as many pictures, which takes half as long."""
        monkeypatch.setattr(limit_search, "PAINTED", 10)

    def test_it_says_from_which_size_on_defects_are_found(self, one_thread, tmp_path, capsys):
        write_parts(tmp_path / "rings", 34)
        options = ["--size", "64", "--epochs", "1", "--no-cache"]
        command = ["train", "--data", str(tmp_path / "rings"), "-o", str(tmp_path / "model")]
        assert main([*command, *options]) == 0
        said = capsys.readouterr().out
        assert "A dark spot is found from " in said
        assert re.search(r"painted by code on [5-7] good pictures that the judging model", said)
        assert said.splitlines()[-1].startswith("Next: differnet export")
        limits = load_metadata(tmp_path / "model").detection_limits
        assert limits.usable
        assert main(["info", str(tmp_path / "model"), "--json"]) == 0
        shown = json.loads(capsys.readouterr().out)["metadata"]["detection_limits"]
        assert shown == json.loads(limits.model_dump_json())

    def test_boards_with_another_circuit_each_end_in_a_warning(self, one_thread, tmp_path, capsys):
        write_circuits(tmp_path / "boards", 40, size=128)
        options = ["--size", "128", "--epochs", "1", "--no-cache"]
        command = ["train", "--data", str(tmp_path / "boards"), "-o", str(tmp_path / "model")]
        assert main([*command, *options]) == 0
        said = capsys.readouterr().out
        assert said.splitlines()[-1].startswith("Do not use this model: it misses more than 10%")
        assert "Next:" not in said
        assert not load_metadata(tmp_path / "model").detection_limits.usable

    def test_it_can_be_left_out(self, one_thread, trained, tmp_path, capsys):
        command = ["train", "--data", str(trained.source), "-o", str(tmp_path / "model")]
        options = ["--tap", "2", "--size", "64", "--width", "8", "--blocks", "1", "--epochs", "1"]
        cache = ["--cache", str(trained.cache), "--false-reject-rate", "0.1"]
        assert main([*command, *options, *cache, "--no-detection-limits"]) == 0
        assert "painted" not in capsys.readouterr().out
        assert load_metadata(tmp_path / "model").detection_limits is None
