"""The routes that label, set thresholds and reset counters, and who may use them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import pytest

from tests.fakes.station import THRESHOLD, FakeStation
from tests.runtime.web.client import Client
from tests.runtime.web.guarded import check_refused


def changing(station: FakeStation) -> list[tuple[str, dict[str, object]]]:
    return [
        (f"/api/labels/{station.kept[0].id}", {"label": "good", "comment": "no scratch"}),
        ("/api/cameras/left/threshold", {"threshold": 2.0}),
        ("/api/cameras/left/threshold/undo", {}),
        ("/api/parts/reset", {"camera": "left"}),
    ]


def test_each_change_is_in_the_audit_trail(client: Client, station: FakeStation) -> None:
    for path, body in changing(station):
        assert client.post(path, body).status == 200, path
        assert station.on_disk == len(station.audited), "before the answer"
    label, changed, undone, reset = station.audited
    assert [one.action for one in station.audited] == ["label", "threshold", "threshold", "reset"]
    assert {one.address for one in station.audited} == {"127.0.0.1"}
    assert label.new == "good (no scratch)"
    assert "no label" in (label.old or "")
    assert (changed.old, changed.new) == (
        f"left: {THRESHOLD:g} (model)", "left: 2 (station)",
    )  # fmt: skip
    assert undone.new == changed.old
    assert "left" in (reset.new or "")
    assert station.reset == ["left"]


def test_a_change_without_token_from_another_page_or_with_changes_off_is_refused(
    station: FakeStation, tmp_path: Path
) -> None:
    def change(
        path: str, body: dict[str, object], client: Client, headers: Mapping[str, str]
    ) -> int:
        return client.post(path, body, **headers).status

    changes = [partial(change, path, body) for path, body in changing(station)]
    check_refused(station, tmp_path, changes, reads=["/api/labels"])
    assert station.labelled == {}
    assert station.changes == []


@pytest.mark.parametrize("threshold", ["NaN", "Infinity", "-Infinity", "1e400", '"2"', "null"])
def test_a_threshold_is_a_finite_number(
    client: Client, station: FakeStation, threshold: str
) -> None:
    answer = client.ask(
        "POST", "/api/cameras/left/threshold", body=f'{{"threshold": {threshold}}}',
        headers={"Content-Type": "application/json"},
    )  # fmt: skip
    assert answer.status in (400, 422)
    assert station.changes == []


def test_labels_are_listed_and_summed_up(client: Client, station: FakeStation) -> None:
    station.judge("left", defect=True)
    ids = [one.id for one in station.kept]
    client.post(f"/api/labels/{ids[0]}", {"label": "good"})
    client.post(f"/api/labels/{ids[1]}", {"label": "defect", "kind": "scratch"})
    found = json.loads(client.get("/api/labels?camera=left&label=defect").data)["labels"]
    assert [(one["id"], one["kind"], one["picture"]) for one in found] == [
        (ids[1], "scratch", True)
    ]
    said = json.loads(client.get("/api/cameras/left/labels").data)
    assert (said["good"], said["defect"], said["false_rejects"], said["misses"]) == (1, 1, 1, 0)
    assert client.get("/api/cameras/nowhere/labels").status == 404
    assert client.post("/api/labels/" + "0" * 32, {"label": "good"}).status == 409
