"""`differnet train`: what it takes over from capture, and what it refuses."""

import json
from pathlib import Path

import pytest

from differnet_runtime.cli import main
from differnet_training.model_directory import load_metadata
from tests.drawn import write_parts

QUICK = ["--tap", "2", "--size", "64", "--width", "8", "--blocks", "1", "--epochs", "1"]


def train(data: Path, output: Path, *options: str) -> int:
    cache = str(output.parent / "cache")
    arguments = ["train", "--data", str(data), "-o", str(output), "--cache", cache]
    return main([*arguments, *QUICK, *options])


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_parts(tmp_path_factory.mktemp("parts"), 34)[0].parent


def test_it_says_what_the_threshold_promises_and_what_comes_next(
    one_thread, parts, tmp_path, capsys
):
    assert train(parts, tmp_path / "model", "--draws", "2") == 0
    said = capsys.readouterr().out
    assert "with 95% confidence at most" in said
    assert f"differnet export {tmp_path / 'model'}" in said
    assert load_metadata(tmp_path / "model").provenance.recipe == "edge changed"


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
            "choose edge, edge-global, paper-lite, paper",
        ),
        (["--size", "65"], "--size 65x65: height: Input should be a multiple of 4"),
        (["--extractor", "resnet99"], "there is no extractor 'resnet99'"),
        (["--false-reject-rate", "0.01"], "found 34, expected at least 111"),
        (["--roi", "60,0,32,32"], "region of interest 60,0,32,32"),
        (["--false-reject-rate", "2"], "must lie between 0 and 1"),
    ],
)
def test_refusals(parts, tmp_path, capsys, options, message):
    assert train(parts, tmp_path / "model", *options) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "model").exists()
