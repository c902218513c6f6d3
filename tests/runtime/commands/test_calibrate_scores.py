"""A threshold from scores that the camera's verdicts already hold."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from differnet_runtime.calibration import HEADROOM
from differnet_runtime.cli import main
from differnet_runtime.metadata import Appearance
from differnet_runtime.model_file import content_hash, read_model_file

Make = Callable[..., Path]
Captured = pytest.CaptureFixture[str]


def written(path: Path, *events: object) -> Path:
    path.write_text("".join(f"{json.dumps(event)}\n" for event in events))
    return path


def test_the_threshold_comes_from_this_models_scores_each_once(
    tiny_model: Make, tmp_path: Path, capsys: Captured
) -> None:
    model = tiny_model()
    own = {"name": "washer", "hash": content_hash(model.read_bytes())}
    good = [{"id": f"a{k}", "camera": "left", "score": 50.0 + k, "verdict": "DEFECT", "model": own}
            for k in range(19)]  # fmt: skip
    others = [
        good[3],
        {"id": "b", "camera": "left", "score": 900.0, "model": {"name": "old", "hash": "0" * 64}},
        {"id": "c", "camera": "left", "score": None, "verdict": "NO_DECISION", "model": own},
        {"id": "d", "camera": "left", "score": 0.01, "verdict": "NO_DECISION", "model": own},
        {"id": "e", "camera": "right", "score": 800.0, "verdict": "GOOD", "model": own},
        {"id": "f", "camera": "left", "kind": "state", "score": None},
    ]
    file = written(tmp_path / "events.jsonl", *good, *others)
    assert main(["calibrate", str(model), "--scores", str(file), "--camera", "left"]) == 0
    calibration = read_model_file(model)[1].calibration
    assert calibration is not None
    assert calibration.images == 19
    assert calibration.threshold == pytest.approx(68.0 * (1 + HEADROOM))
    assert calibration.scored_by == "stored scores"
    told = capsys.readouterr().err
    assert "3 without a score, 1 of another model, 1 there twice" in told


def test_the_lines_of_differnet_run_will_do(
    tiny_model: Make, pictures: Make, tmp_path: Path, capsys: Captured
) -> None:
    model, lines = tiny_model(), tmp_path / "run.jsonl"
    folder = pictures(*range(101, 121))
    main(["run", "--model", str(model), "--source", str(folder), "--output", str(lines)])
    assert main(["calibrate", str(model), "--scores", str(lines)]) == 0
    calibration = read_model_file(model)[1].calibration
    assert calibration
    assert calibration.good_scores == tuple(map(float, range(101, 121)))


def test_scores_leave_what_is_known_of_the_pictures(
    tiny_model: Make, pictures: Make, tmp_path: Path
) -> None:
    good = Appearance(darkest=30, brightest=90, softest=0.01, images=50)
    model, lines = tiny_model(appearance=good), tmp_path / "run.jsonl"
    folder = pictures(*range(101, 121))
    main(["run", "--model", str(model), "--source", str(folder), "--output", str(lines)])
    assert main(["calibrate", str(model), "--scores", str(lines)]) == 0
    assert read_model_file(model)[1].appearance == good


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "it has no verdicts"),
        ("[1]\n", "line 1: a JSON object is expected"),
        ('{"score": 1}\n{"sco', "line 2: not JSON"),
        ('{"score": 1}\n', "needs at least 19 good images"),
        ('{"score": "1"}\n{"score": true}\n{"score": NaN}\n', "3 without a score"),
    ],
)
def test_what_can_not_be_used_is_named(
    text: str, message: str, tiny_model: Make, tmp_path: Path, capsys: Captured
) -> None:
    model, file = tiny_model(), tmp_path / "events.jsonl"
    file.write_text(text)
    before = model.read_bytes()
    assert main(["calibrate", str(model), "--scores", str(file)]) == 2
    assert message in capsys.readouterr().err
    assert model.read_bytes() == before
