"""`differnet calibrate` on a really trained model: what would spoil its threshold is told."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from differnet_runtime.model_file.file import read_model_file
from tests.command_line import differnet
from tests.conftest import Trained
from tests.drawn import write_parts

Captured = pytest.CaptureFixture[str]
RATE = ("--false-reject-rate", 0.1)


@pytest.fixture
def model(exported_headed: Path, tmp_path: Path) -> Path:
    return shutil.copy(exported_headed, tmp_path / "part.onnx")


def threshold(model: Path) -> float:
    calibration = read_model_file(model)[1].calibration
    assert calibration is not None
    return calibration.threshold


def test_a_folder_of_defects_is_questioned(model: Path, tmp_path: Path, capsys: Captured) -> None:
    write_parts(tmp_path / "defects", 20, first=300, defect=True)
    before = threshold(model)
    assert differnet("calibrate", model, "--images", tmp_path / "defects", *RATE) == 2
    shown = capsys.readouterr().err
    assert "20 of 20 pictures are above the present threshold" in shown
    assert "are these good parts?" in shown
    assert threshold(model) == before


def test_training_pictures_are_told_from_new_ones(
    headed: Trained, model: Path, tmp_path: Path, capsys: Captured
) -> None:
    new = write_parts(tmp_path / "mixed", 27, first=400)
    for k, path in enumerate(sorted((headed.source / "train" / "good").iterdir())[:33]):
        shutil.copy(path, tmp_path / "mixed" / f"another{k:02d}.png")
    assert differnet("calibrate", model, "--images", tmp_path / "mixed", *RATE) == 0
    assert "left out: 33 of 60 pictures, which the model was" in capsys.readouterr().err
    calibration = read_model_file(model)[1].calibration
    assert calibration is not None
    assert calibration.images == len(new)


def test_a_log_of_good_and_defective_parts_does_not_raise_the_threshold(
    model: Path, tmp_path: Path, capsys: Captured
) -> None:
    """What the line sees: 60 good parts and 4 defects, none of them labelled."""
    write_parts(tmp_path / "line", 60, first=500)
    write_parts(tmp_path / "line", 4, first=600, defect=True)
    log, before = tmp_path / "verdicts.jsonl", threshold(model)
    line = ["run", "--model", model, "--source", tmp_path / "line", "--output", log]
    assert differnet(*line) == 0
    code = differnet("calibrate", model, "--scores", log, "--false-reject-rate", 0.3)
    assert code == 0
    assert "rejected without a label" in capsys.readouterr().err
    assert threshold(model) <= before * 1.001
