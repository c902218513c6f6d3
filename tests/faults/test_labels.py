"""What an operator corrects on a real station: it outlives everything, and becomes a data set."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from differnet_runtime.inspection.capture_record import read_capture
from differnet_training.datasets.folder import ClassNames, read_labelled
from differnet_training.head_fitting import part_names
from tests.command_line import differnet
from tests.fakes.running import RunningStation
from tests.faults.test_station import FOLDER, write_clip, write_picture

THRESHOLD = 120.0
"""The fake engine's score is the mean brightness."""

MODEL = f'backend = "fake:1ms"\nthreshold = {THRESHOLD}'


WRONG = (
    {"label": "bad"},
    {"label": "defect", "kind": "../../etc"},
    {"label": "defect", "kind": "Good"},
    {"label": "defect", "kind": "ground_truth"},
    {"label": "defect", "comment": "a\0b"},
    {"kind": "scratch"},
)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Six pictures that are all rejected, the brighter the worse."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(6):
        write_picture(folder / f"{number}.png", 130 + 10 * number)
    return folder


@pytest.fixture
def station(tmp_path: Path, pictures: Path) -> Iterator[RunningStation]:
    with RunningStation(tmp_path, FOLDER.format(source=pictures), model=MODEL) as station:
        station.wait(lambda: len(kept(station)) == 6, what="six kept pictures")
        yield station


def kept(station: RunningStation) -> list[dict[str, Any]]:
    """Returns the kept pictures, the least score first."""
    status, found = station.get("/api/evidence")
    return sorted(found["entries"], key=lambda one: one["score"]) if status == 200 else []


def defects(station: RunningStation) -> int | None:
    """Returns the camera's defective parts; None while they are not known yet."""
    found: int | None = (station.camera("top").get("parts") or {}).get("defect")
    return found


def audited(station: RunningStation, action: str) -> int:
    """Returns how many entries the audit trail has; a kill may deliver one twice."""
    return len({one["id"] for one in station.events("audit") if one["action"] == action})


def again(station: RunningStation) -> None:
    """Kills the station, and waits until it answers again."""
    station.kill()
    station.start()
    station.wait(lambda: len(kept(station)) == 6, what="the kept pictures")


def test_no_label_and_no_count_is_lost_when_the_station_is_killed(
    station: RunningStation,
) -> None:
    entries = kept(station)
    station.wait(lambda: defects(station) == 6, what="six parts")
    for number, entry in enumerate(entries):
        body = {"label": "good" if number < 3 else "defect", "comment": f"number {number}"}
        status, said = station.post(f"/api/labels/{entry['id']}", body)
        assert status == 200, said
        if number in (1, 4):
            again(station)
    labels = station.get("/api/labels")[1]["labels"]
    assert {one["id"] for one in labels} == {one["id"] for one in entries}
    assert [one["label"] for one in kept(station)] == ["good"] * 3 + ["defect"] * 3
    assert all(one["picture"] for one in labels)
    station.wait(lambda: defects(station) == 6, what="six")
    assert station.camera("top")["parts"]["yield_percent"] == 0.0

    assert station.post("/api/parts/reset", {"camera": "top"})[0] == 200
    station.wait(lambda: defects(station) == 0, what="a reset")
    again(station)
    station.wait(lambda: defects(station) is not None, what="parts")
    assert defects(station) == 0


def test_a_threshold_from_labels_holds_over_a_kill_until_it_is_undone_or_the_file_changes(
    station: RunningStation, pictures: Path
) -> None:
    for number, entry in enumerate(kept(station)):
        body = {"label": "good"} if number < 3 else {"label": "defect", "kind": "Kratzer"}
        assert station.post(f"/api/labels/{entry['id']}", body)[0] == 200
    status, said = station.get("/api/cameras/top/labels")
    assert (said["good"], said["defect"], said["false_rejects"], said["misses"]) == (3, 3, 3, 0)
    assert (said["threshold"], said["set_by"]) == (THRESHOLD, "configuration")
    best = next(p for p in said["points"] if (p["false_rejects"], p["misses"]) == (0, 0))
    assert station.post("/api/cameras/top/threshold", {"threshold": 1e6})[0] == 409
    status, said = station.post("/api/cameras/top/threshold", {"threshold": best["threshold"]})
    assert (status, said["threshold"], said["set_by"]) == (200, best["threshold"], "station")

    station.wait(lambda: audited(station, "threshold") == 2, what="the audit trail on disk")
    again(station)
    station.wait(lambda: station.camera("top"), what="the camera")
    assert station.camera("top")["threshold"] == best["threshold"]
    write_picture(pictures / "again.png", 134)
    station.wait(lambda: len(station.events("inspection")) == 7, what="another verdict")
    last = station.events("inspection")[-1]
    assert (last["verdict"], last["threshold"]) == ("GOOD", best["threshold"])

    status, said = station.post("/api/cameras/top/threshold/undo", {})
    assert (status, said["threshold"], said["set_by"]) == (200, THRESHOLD, "configuration")
    assert station.post("/api/cameras/top/threshold/undo", {})[0] == 409

    assert station.post("/api/cameras/top/threshold", {"threshold": 125.0, "force": True})[0] == 200
    station.config.write_text(station.config.read_text().replace("= 120.0", "= 110.0"))
    station.signal(signal.SIGHUP)
    station.wait(lambda: station.camera("top").get("threshold") == 110.0, what="the file's")
    station.wait(lambda: audited(station, "threshold") == 6, what="the audit trail")
    assert audited(station, "label") == 6


def test_labels_become_a_data_set(
    station: RunningStation, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    entries = kept(station)
    for body in WRONG:
        assert station.post(f"/api/labels/{entries[0]['id']}", body)[0] == 422, body
    for number, entry in enumerate(entries):
        kinds = {3: "scratch", 4: "Kratzer", 5: None}
        body = {"label": "good"} if number < 3 else {"label": "defect", "kind": kinds[number]}
        assert station.post(f"/api/labels/{entry['id']}", body)[0] == 200
    assert differnet("labels", "list", station.config) == 0
    assert "was DEFECT, score" in capsys.readouterr().out
    output = tmp_path / "set"
    assert differnet("labels", "export", station.config, "--output", output, "--json") == 0
    assert json.loads(capsys.readouterr().out)["pictures"] == {
        "good": 3, "scratch": 1, "Kratzer": 1, "defect": 1,
    }  # fmt: skip
    found = read_labelled(output, ClassNames()).test
    recorded = read_capture(output)
    assert recorded is not None
    assert set(part_names(found, recorded.groups)) == {entry["id"] for entry in entries}
    assert sorted(one.kind for one in found) == sorted(
        ["good"] * 3 + ["scratch", "Kratzer", "defect"]
    )
    assert differnet("labels", "export", station.config, "--output", output) == 2
    assert "is not empty" in capsys.readouterr().err


def test_frames_of_a_rejected_part_are_one_entry_with_the_worst_of_them(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "belt.avi")
    tables = f'[camera.top]\nsource = "{clip}"\npaced = true\nsame_part_s = 3600\n'
    with RunningStation(tmp_path, tables, model='backend = "fake:1ms"\nthreshold = 1.0') as station:
        station.wait(lambda: len(station.events("inspection")) > 12, what="frames")
        station.wait(lambda: kept(station) and kept(station)[0]["frames"] > 12, what="frames")
        rejected = [one for one in station.events("inspection") if one["reject"]]
        [entry] = kept(station)
        scores = [one["score"] for one in rejected[:12] if one["score"] is not None]
        assert entry["score"] >= max(scores)
        assert len({one["first_event"] for one in rejected}) == 1
        assert [one["part_frame"] for one in rejected[:12]] == list(range(1, 13))
        assert defects(station) == 1
