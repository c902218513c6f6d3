"""`differnet train`: what it takes over from capture, how it calibrates, what it refuses."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from differnet_runtime.cli import main
from differnet_runtime.errors import TrainingError
from differnet_training.extractors import build_network
from differnet_training.head_fitting import fold_of
from differnet_training.model import load_metadata, read_training
from differnet_training.recipes import EDGE
from tests.command_line import differnet
from tests.drawn import write_parts

QUICK = ["--tap", "2", "--size", "64", "--width", "8", "--blocks", "1", "--epochs", "1"]
QUICK += ["--no-detection-limits"]


def train(data: Path, output: Path, *options: str) -> int:
    cache = str(output.parent / "cache")
    arguments = ["train", "--data", str(data), "-o", str(output), "--cache", cache]
    return differnet(*arguments, *QUICK, *options)


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_parts(tmp_path_factory.mktemp("parts"), 34)[0].parent


def test_it_says_what_the_threshold_promises_and_what_comes_next(
    one_thread, parts, tmp_path, capsys, caplog
):
    assert train(parts, tmp_path / "model", "--draws", "2") == 0
    assert caplog.text.count("one flow in place of heads") == 1
    said = capsys.readouterr().out
    assert "with 95% confidence at most" in said
    assert f"differnet export {tmp_path / 'model'}" in said
    assert load_metadata(tmp_path / "model").provenance.recipe == "edge changed"


def test_good_parts_beside_defects_train_and_leave_some_to_judge_by(one_thread, tmp_path, capsys):
    data, model = tmp_path / "rings", tmp_path / "model"
    write_parts(data / "OK", 45)
    write_parts(data / "NG", 3, first=100, defect=True)
    names = ["--good", "OK", "--defect", "NG"]
    assert train(data, model, "--draws", "2", *names) == 0
    assert sum(len(part) for part in read_training(model)["parts"].values()) == 36
    capsys.readouterr()
    output = ["--output", str(tmp_path / "out"), "--cache", str(tmp_path / "cache")]
    assert main(["eval", str(model), "--data", str(data), *names, *output]) == 0
    said = capsys.readouterr().out
    assert "9 good, 3 defective" in said
    assert "36 good pictures that the model learned from were left out" in said


def test_region_and_fit_come_from_capture(one_thread, tmp_path):
    folder = write_parts(tmp_path / "parts", 34)[0].parent
    record = {
        "version": 1,
        "source": "0",
        "roi": {"x": 8, "y": 8, "width": 40, "height": 32},
        "fit": "letterbox",
        "settings": {"requested": {}, "actual": {}},
        "frame_size": [64, 64],
        "created": "2026-01-01T00:00:00+00:00",
    }
    (folder / "capture.json").write_text(json.dumps(record))
    assert train(folder, tmp_path / "model") == 0
    contract = load_metadata(tmp_path / "model").input
    assert str(contract.region) == "8,8,40,32"
    assert contract.fit == "letterbox"
    assert train(folder, tmp_path / "other", "--roi", "0,0,64,64", "--fit", "crop") == 0
    assert str(load_metadata(tmp_path / "other").input.region) == "0,0,64,64"


def test_a_finished_model_is_not_replaced_unasked(one_thread, parts, tmp_path, capsys):
    assert train(parts, tmp_path / "model") == 0
    assert train(parts, tmp_path / "model") == 2
    assert "--overwrite" in capsys.readouterr().err
    assert train(parts, tmp_path / "model", "--overwrite") == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--recipe", "cake"],
            "choose from edge, edge-global, paper-lite, paper",
        ),
        (["--size", "65"], "--size 65x65: height: Input should be a multiple of 4"),
        (["--extractor", "resnet99"], "there is no extractor 'resnet99'"),
        (["--false-reject-rate", "0.01"], "found 34, expected at least 111"),
        (["--roi", "60,0,32,32"], "region of interest 60,0,32,32"),
        (["--false-reject-rate", "2"], "'2' is not a share above 0 and below 1"),
    ],
)
def test_refusals(parts, tmp_path, capsys, options, message):
    assert train(parts, tmp_path / "model", *options) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "model").exists()


def train_heads(data: Path, output: Path, *options: str) -> int:
    """Trains the default recipe, for one epoch."""
    cache = str(output.parent / "cache")
    arguments = ["train", "--data", str(data), "-o", str(output), "--cache", cache]
    return differnet(*arguments, "--epochs", "1", "--no-detection-limits", *options)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two pictures each of 17 parts: `07_left.png`, `07_right.png`."""
    folder = tmp_path_factory.mktemp("pairs") / "data"
    for k, path in enumerate(write_parts(folder, 34)):
        path.rename(folder / f"{k // 2:02d}_{'left' if k % 2 else 'right'}.png")
    return folder


class TestHeads:
    def test_the_default_has_three_and_calls_its_rate_an_estimate(
        self, one_thread, parts, tmp_path, capsys
    ):
        assert train_heads(parts, tmp_path / "model", "--size", "96x64") == 0
        said = capsys.readouterr().out
        assert "34 out-of-fold scores of good images" in said
        assert "it is estimated that 5.00% of good parts are rejected" in said
        metadata = load_metadata(tmp_path / "model")
        assert [head.name for head in metadata.heads] == ["whole", "coarse", "fine"]
        assert (metadata.input.height, metadata.input.width) == (96, 64)
        assert (metadata.calibration.method, metadata.calibration.images) == ("out_of_fold", 34)
        assert metadata.provenance.images == 34
        parts_ = read_training(tmp_path / "model")["parts"]
        assert {name: len(entries) for name, entries in parts_.items()} == {
            "train": 34,
            "calibration": 0,
        }
        assert not list((tmp_path / "model").glob("*.checkpoint"))

    def test_a_split_promises(self, one_thread, parts, tmp_path, capsys):
        options = ["--size", "64", "--calibration", "split", "--false-reject-rate", "0.2"]
        assert train_heads(parts, tmp_path / "model", *options) == 0
        said = capsys.readouterr().out
        assert "on average 20.00% of good parts are rejected" in said
        assert "estimate" not in said
        metadata = load_metadata(tmp_path / "model")
        assert (metadata.calibration.method, metadata.calibration.images) == ("split", 7)
        assert metadata.provenance.images == 27
        parts_ = read_training(tmp_path / "model")["parts"]
        trained, alone = (
            [entry["sha256"] for entry in parts_[name]] for name in ("train", "calibration")
        )
        assert metadata.provenance.trained_on([*trained, *alone]) == set(trained)
        hashes = [entry["sha256"] for part in parts_.values() for entry in part]
        assert len(hashes) == len(set(hashes)) == 34

    def test_tiles_are_in_the_contract(self, one_thread, parts, tmp_path):
        options = ["--size", "256x64", "--tiles", "2x1"]
        assert train_heads(parts, tmp_path / "model", *options) == 0
        contract = load_metadata(tmp_path / "model").input
        assert (contract.shape, str(contract.tiles)) == ((256, 64, 3), "2x1")

    def test_pictures_of_a_part_are_in_one_fold(self, one_thread, pairs, tmp_path):
        options = ["--size", "64", "--groups", r"(\d+)_(left|right)"]
        assert train_heads(pairs, tmp_path / "model", *options) == 0
        record = read_training(tmp_path / "model")
        names = [Path(entry["path"]).name[:2] for entry in record["parts"]["train"]]
        assert record["groups"] == names
        fold = fold_of(record["groups"], 0)
        assert all(len(set(fold[[n == name for n in names]])) == 1 for name in names)

    def test_a_part_that_calibrates_alone_trains_nothing(self, one_thread, pairs, tmp_path):
        options = ["--size", "64", "--groups", r"(\d+)_", "--calibration", "split"]
        options += ["--false-reject-rate", "0.2"]
        assert train_heads(pairs, tmp_path / "model", *options) == 0
        parts_ = read_training(tmp_path / "model")["parts"]
        train, alone = (
            {Path(entry["path"]).name[:2] for entry in parts_[name]}
            for name in ("train", "calibration")
        )
        assert alone
        assert not train & alone


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--size", "10x"], "--size takes HEIGHTxWIDTH in pixels (640x256)"),
        (["--tiles", "0x1"], "--tiles takes ROWSxCOLUMNS, 1x1 to 16x16"),
        (["--groups", "("], "--groups: '(' is not a regular expression"),
        (["--groups", "lot"], "--groups 'lot' matches none of the 34 pictures"),
        (["--size", "64", "--groups", r"part00\d"], "found 4 different ones, expected at least 10"),
        (["--size", "96x64", "--tiles", "2x1"], "2x1 tiles need a height that is a multiple of 64"),
        (["--size", "64", "--false-reject-rate", "0"], "'0' is not a share above 0 and below 1"),
        (
            ["--size", "64", "--calibration", "split"],
            "needs at least 19 good images for calibration; there are 7",
        ),
        (["--blocks", "4"], "--blocks has no effect with the recipe 'edge'"),
        (["--size", "64", "--tap", "2", "--tiles", "1x2"], "--tiles needs a recipe with heads"),
    ],
)
def test_what_is_refused_before_any_picture_is_read(parts, tmp_path, capsys, options, message):
    unreadable = tmp_path / "data"
    shutil.copytree(parts, unreadable)
    for path in unreadable.iterdir():
        path.write_bytes(b"no picture")
    assert train_heads(unreadable, tmp_path / "model", *options) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "model").exists()
    assert not (tmp_path / "cache").exists()


def test_too_few_pictures_are_refused_before_they_are_read(tmp_path, capsys):
    for path in write_parts(tmp_path / "data", 9):
        path.write_bytes(b"no picture")
    assert train_heads(tmp_path / "data", tmp_path / "model", "--size", "64") == 2
    assert "found 9 different ones, expected at least 10" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["efficientnet_lite1", "timm:resnet18"])
def test_heads_on_another_extractor_read_the_same_depths(name: str) -> None:
    strides = {}
    for recipe in (EDGE, EDGE.on(name)):
        taps = recipe.reading()["tap"]
        network = build_network(recipe.extractor, taps, None, pretrained=False).eval()
        with torch.no_grad():
            maps = network(torch.zeros(1, 3, 64, 64))
        strides[recipe.extractor] = {64 // int(one.shape[2]) for one in maps}
    assert strides[name] == strides[EDGE.extractor] == {4, 8, 16, 32}


def test_heads_need_an_extractor_with_several_maps() -> None:
    with pytest.raises(TrainingError, match="alexnet has one feature map"):
        EDGE.on("alexnet")


def test_the_one_feature_map_of_a_network_has_no_number(tmp_path, capsys) -> None:
    write_parts(tmp_path / "data", 10)
    options = ("--recipe", "paper", "--tap", "3")
    assert train_heads(tmp_path / "data", tmp_path / "model", *options) == 2
    assert "--tap: alexnet has one feature map: leave the tap out" in capsys.readouterr().err
