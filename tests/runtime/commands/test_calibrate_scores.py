"""A threshold from verdicts that were given at the camera.

The model scores brightness; its threshold of 118 was set for 10 % by 20 pictures.
"""

import json
import sqlite3
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from differnet_runtime.cli import main
from differnet_runtime.evidence.index import EvidenceItem, Index
from differnet_runtime.inspection.calibration import HEADROOM
from differnet_runtime.model_file.file import content_hash, read_model_file
from differnet_runtime.model_file.metadata import Appearance, Calibration
from differnet_runtime.outbox.table import EventTable, OutboxEntry
from tests.command_line import differnet

Make = Callable[..., Path]
Captured = pytest.CaptureFixture[str]


def verdict(number: int, score: float, model: Path | None = None, **changes: object) -> Any:
    """Returns an event: GOOD up to the model's threshold."""
    decided = "GOOD" if score <= 118.0 else "DEFECT"
    named = {"name": "washer", "hash": content_hash(model.read_bytes())} if model else None
    event = {"id": f"e{number}", "type": "inspection", "camera": "left", "verdict": decided}
    return {**event, "score": score, "threshold": 118.0, "model": named, **changes}


def passed(count: int, model: Path | None = None, **changes: object) -> list[Any]:
    """Returns verdicts on parts that passed, of scores 50, 51 and so on."""
    return [verdict(number, 50.0 + number, model, **changes) for number in range(count)]


def written(path: Path, events: Iterable[object]) -> Path:
    path.write_text("".join(f"{json.dumps(event)}\n" for event in events))
    return path


def calibrate(model: Path, scores: Path, *options: object) -> int:
    return differnet("calibrate", model, "--scores", scores, *options)


def set_by(model: Path) -> Calibration:
    calibration = read_model_file(model)[1].calibration
    assert calibration is not None
    return calibration


def test_only_good_verdicts_of_one_camera_and_this_model_count_each_once(
    tiny_model: Make, tmp_path: Path, capsys: Captured
) -> None:
    model = tiny_model()
    good = passed(40, model)
    others = [
        good[3],
        {**verdict(100, 60.0), "model": {"name": "old", "hash": "0" * 64}},
        verdict(101, 61.0, model, verdict="NO_DECISION"),
        {**verdict(102, 62.0, model), "score": None},
        verdict(103, 63.0, model, camera="right"),
        verdict(104, 64.0, model, label="defect"),
        verdict(105, 150.0, model, label="defect"),
        verdict(106, 65.0, model, label="perhaps"),
        verdict(107, 200.0, model),
        {"id": "s", "type": "state", "component": "engine", "state": "ok"},
        {"id": "a", "type": "alarm", "camera": "left", "rejects": 3},
    ]
    file = written(tmp_path / "events.jsonl", [*good, *others])
    assert calibrate(model, file, "--camera", "left") == 0
    calibration = set_by(model)
    assert calibration.good_scores == tuple(50.0 + number for number in range(40))
    assert (calibration.images, calibration.rejected) == (41, 1)
    assert calibration.scored_by == "stored scores"
    shown = capsys.readouterr()
    for told in (
        "1 there twice",
        "1 of another model",
        "2 without a decision or a score",
        "1 of other cameras",
        "2 labelled defects",
        "1 with a label other than good and defect",
        "1 rejected without a label (counted as above the threshold)",
        "2 no verdicts",
    ):
        assert told in shown.err
    assert "1 of the 41 were rejected and have no label" in shown.out


def test_the_rejected_without_a_label_count_as_above(tiny_model: Make, tmp_path: Path) -> None:
    """Of 60 verdicts 58 rank below 5 %, which is the highest that passed: nothing is forgotten."""
    model = tiny_model()
    events = [*passed(58, model), verdict(90, 400.0, model), verdict(91, 119.0, model)]
    assert calibrate(model, written(tmp_path / "log", events)) == 0
    assert set_by(model).threshold == pytest.approx(107.0 * (1 + HEADROOM))


def test_calibrating_again_and_again_does_not_lower_the_threshold(
    tiny_model: Make, tmp_path: Path
) -> None:
    """Without the rejected, 5 % of those that passed would be rejected anew each time."""
    thresholds = []
    scores = [50.0 + number / 2 for number in range(100)]
    for _ in range(3):
        model = tiny_model(f"{len(thresholds)}.onnx")
        present = thresholds[-1] if thresholds else 118.0
        events = [
            verdict(number, score, model, verdict="GOOD" if score <= present else "DEFECT")
            for number, score in enumerate(scores)
        ]
        assert calibrate(model, written(tmp_path / "log", events)) == 0
        thresholds.append(set_by(model).threshold)
    assert thresholds == [thresholds[0]] * 3


def test_more_rejected_than_the_rate_allows_is_refused(
    tiny_model: Make, tmp_path: Path, capsys: Captured
) -> None:
    model = tiny_model()
    events = [*passed(57, model), *(verdict(90 + k, 150.0 + k, model) for k in range(6))]
    log = written(tmp_path / "log", events)
    before = model.read_bytes()
    assert calibrate(model, log) == 2
    shown = capsys.readouterr().err
    assert (
        "6 of 63 parts were rejected and have no label: more than a false-reject rate of" in shown
    )
    assert "or ask for --false-reject-rate 0.1094" in shown
    assert model.read_bytes() == before
    assert calibrate(model, log, "--false-reject-rate", 0.1094) == 0


def test_a_rejected_part_that_is_labelled_good_counts_with_its_score(
    tiny_model: Make, tmp_path: Path
) -> None:
    model = tiny_model()
    false_rejects = [verdict(90 + k, 120.0 + k, model, label="good") for k in range(6)]
    log = written(tmp_path / "log", [*passed(57, model), *false_rejects])
    assert calibrate(model, log) == 0
    assert set_by(model).threshold == pytest.approx(123.0 * (1 + HEADROOM))
    assert set_by(model).rejected == 0


def test_labels_that_chance_does_not_explain_stop(
    tiny_model: Make, tmp_path: Path, capsys: Captured
) -> None:
    model = tiny_model()
    labelled = [verdict(90 + k, 300.0 + k, model, label="good") for k in range(30)]
    log = written(tmp_path / "log", [*passed(30, model), *labelled])
    assert calibrate(model, log) == 2
    shown = capsys.readouterr().err
    assert "30 of 60 good verdicts are above the present threshold of 118; by chance at" in shown
    assert "The highest: e119, e118, e117, e116, e115." in shown
    assert calibrate(model, log, "--force") == 0


def test_several_cameras_must_be_told_apart(
    tiny_model: Make, tmp_path: Path, capsys: Captured
) -> None:
    model = tiny_model()
    right = [verdict(100 + k, 60.0 + k, model, camera="right") for k in range(25)]
    log = written(tmp_path / "log", [*passed(20, model), *right])
    assert calibrate(model, log) == 2
    assert "left (20), right (25). Choose one: --camera NAME" in capsys.readouterr().err
    assert calibrate(model, log, "--camera", "top") == 2
    assert "--camera top: " in capsys.readouterr().err
    assert calibrate(model, log, "--camera", "rihgt") == 2
    assert "has no verdicts of this camera; did you mean right?" in capsys.readouterr().err
    assert calibrate(model, log, "--camera", "right") == 0
    assert "20 of other cameras" in capsys.readouterr().err
    assert set_by(model).good_scores[0] == 60.0


def test_a_stations_index_of_pictures_will_do(
    tiny_model: Make, tmp_path: Path, capsys: Captured
) -> None:
    """It names no model: the threshold tells. It is read while the station writes it."""
    model = tiny_model()
    index = Index(tmp_path / "index.sqlite")
    items = [
        EvidenceItem(f"e{k}", 0.0, "left", None, "GOOD", None, 50.0 + k, 118.0, False, 1)
        for k in range(40)
    ]
    items += [
        EvidenceItem("x", 0.0, "left", None, "DEFECT", None, 130.0, 118.0, False, 1),
        EvidenceItem("y", 0.0, "left", None, "GOOD", None, 0.5, 1.0, False, 1),
        EvidenceItem("z", 0.0, "left", None, "NO_DECISION", "black", None, None, False, 1),
    ]
    index.add(items)
    assert calibrate(model, tmp_path / "index.sqlite") == 0
    index.close()
    assert (set_by(model).images, set_by(model).rejected) == (41, 1)
    shown = capsys.readouterr().err
    assert "1 judged by another threshold, perhaps of another model" in shown


def test_a_stations_outbox_will_do(tiny_model: Make, tmp_path: Path) -> None:
    model = tiny_model()
    table = EventTable(tmp_path / "outbox.sqlite")
    table.write([OutboxEntry(event["id"], json.dumps(event)) for event in passed(30, model)], {})
    table.close()
    before = (tmp_path / "outbox.sqlite").read_bytes()
    assert calibrate(model, tmp_path / "outbox.sqlite") == 0
    assert set_by(model).images == 30
    assert (tmp_path / "outbox.sqlite").read_bytes() == before


def test_another_database_is_refused(tiny_model: Make, tmp_path: Path, capsys: Captured) -> None:
    path = tmp_path / "other.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE fruit (name TEXT)")
    connection.close()
    assert calibrate(tiny_model(), path) == 2
    assert "expected evidence/index.sqlite or outbox.sqlite" in capsys.readouterr().err


def test_a_damaged_database_is_refused(tiny_model: Make, tmp_path: Path, capsys: Captured) -> None:
    path = tmp_path / "index.sqlite"
    path.write_bytes(b"SQLite format 3\0" + b"nonsense" * 1000)
    assert calibrate(tiny_model(), path) == 2
    assert "index.sqlite: file is not a database" in capsys.readouterr().err


def test_the_lines_of_differnet_run_will_do(
    tiny_model: Make, pictures: Make, tmp_path: Path
) -> None:
    model, lines = tiny_model(), tmp_path / "run.jsonl"
    folder = pictures(*range(99, 119))
    main(["run", "--model", str(model), "--source", str(folder), "--output", str(lines)])
    assert calibrate(model, lines) == 0
    assert set_by(model).good_scores == tuple(map(float, range(99, 119)))


def test_lines_of_another_threshold_are_not_taken(
    tiny_model: Make, pictures: Make, tmp_path: Path, capsys: Captured
) -> None:
    model, lines = tiny_model(), tmp_path / "run.jsonl"
    options = ["--output", lines, "--threshold", 400]
    assert differnet("run", "--model", model, "--source", pictures(*range(20, 50)), *options) == 0
    assert calibrate(model, lines) == 2
    assert "30 judged by another threshold" in capsys.readouterr().err


def test_scores_leave_what_is_known_of_the_pictures(tiny_model: Make, tmp_path: Path) -> None:
    good = Appearance(darkest=30, brightest=90, softest=0.01, images=50)
    model = tiny_model(appearance=good)
    assert calibrate(model, written(tmp_path / "log", passed(30, model))) == 0
    assert read_model_file(model)[1].appearance == good


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "it has no verdicts"),
        ("[1]\n", "line 1: a JSON object is expected"),
        ('{"score": 1}\n{"sco', "line 2: not JSON"),
        ("[" * 100_000, "line 1: not JSON"),
        ('{"score": 1}\n', "holds no score that this model gave a good part (1 no verdicts)"),
        (
            '{"verdict": "GOOD", "threshold": 118, "score": 1}\n',
            "needs at least 19 good images for calibration; there are 1",
        ),
        (
            '{"verdict": "GOOD", "score": "1"}\n{"verdict": "GOOD", "score": true}\n'
            '{"verdict": "GOOD", "score": NaN}\n',
            "3 without a decision or a score",
        ),
    ],
)
def test_what_can_not_be_used_is_named(
    text: str, message: str, tiny_model: Make, tmp_path: Path, capsys: Captured
) -> None:
    model, file = tiny_model(), tmp_path / "events.jsonl"
    file.write_text(text)
    before = model.read_bytes()
    assert calibrate(model, file) == 2
    assert message in capsys.readouterr().err
    assert model.read_bytes() == before


@pytest.mark.parametrize(
    "options",
    [("--doubtful", "drop"), ("--skip-unreadable",), ("--backend", "fake"), ("--threads", 2)],
)
def test_options_of_pictures_are_refused_beside_scores(
    tiny_model: Make, tmp_path: Path, options: tuple[object, ...], capsys: Captured
) -> None:
    scores = written(tmp_path / "events.jsonl", passed(40))
    assert calibrate(tiny_model(), scores, *options) == 2  # before anything is read
    assert f"{options[0]} goes with --images" in capsys.readouterr().err
