"""The routes of teaching: who may use them, what they answer, and what the audit trail says."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from differnet_runtime.web import teach_routes
from tests.fakes.station import FakeStation
from tests.fakes.teaching import frame_of_part, trainer
from tests.runtime.waiting import wait_for
from tests.runtime.web.client import Client, serving
from tests.runtime.web.guarded import check_refused

RING = "/api/teach/ring"
BYTES = {"Content-Type": "application/octet-stream"}


@pytest.fixture
def station(tmp_path: Path) -> Iterator[FakeStation]:
    station = FakeStation(tmp_path / "station")
    station.trainer = trainer("import time; time.sleep(600)")
    yield station
    station.stop()


@pytest.fixture
def client(station: FakeStation) -> Iterator[Client]:
    with serving(station) as client:
        yield client


def make(client: Client, **more: object) -> dict[str, Any]:
    answer = client.post("/api/teach", {"name": "ring", "camera": "left", **more})
    assert answer.status == 201, answer.data
    return json.loads(answer.data)


def take(client: Client, station: FakeStation, *seeds: int) -> dict[str, Any]:
    for seed in seeds:
        station.site.frames["left"] = frame_of_part(seed, size=64)
        answer = client.ask("POST", f"{RING}/pictures")
        assert answer.status == 200, answer.data
    return json.loads(answer.data)


def test_pictures_are_taken_shown_thrown_out_and_given_as_a_zip(
    client: Client, station: FakeStation
) -> None:
    region = {"x": 8, "y": 8, "width": 48, "height": 48}
    made = make(client, region=region)
    assert (made["region"], made["parts"], made["goal"], made["training"]) == (region, 0, 12, None)
    found = take(client, station, 1, 2, 3)
    assert (found["taken"], found["why"], found["parts"]) == (True, None, 3)
    found = take(client, station, 3)
    assert (found["taken"], found["repeats"]) == (False, 1)
    assert "the same" in found["why"]
    picture = client.get(f"{RING}/pictures/000002?thumbnail=true")
    assert picture.headers["content-type"] == "image/jpeg"
    assert cv2.imdecode(np.frombuffer(picture.data, np.uint8), 1).shape == (64, 64, 3)
    out = json.loads(client.post(f"{RING}/pictures/000002", {"kept": False}).data)
    assert (out["parts"], out["thrown_out"]) == (2, 1)
    assert [one["kept"] for one in out["pictures"]] == [True, False, True]
    answer = client.get(f"{RING}/pictures.zip")
    assert answer.headers["content-type"] == "application/zip"
    with zipfile.ZipFile(io.BytesIO(answer.data)) as archive:
        assert archive.testzip() is None
        assert archive.namelist()[1:] == ["ring/good/000001.png", "ring/good/000003.png"]
    listed = json.loads(client.get("/api/teach").data)
    assert [one["name"] for one in listed["datasets"]] == ["ring"]
    assert client.ask("DELETE", RING).status == 204
    assert client.get(RING).status == 404


def test_pictures_need_not_be_listed_again_while_their_revision_stays(
    client: Client, station: FakeStation
) -> None:
    def listed(query: str) -> dict[str, Any]:
        return json.loads(client.get(f"/api/teach{query}").data)["datasets"][0]

    make(client)
    revisions = [listed("")["revision"]]
    for change in (
        lambda: take(client, station, 1),
        lambda: take(client, station, 2),
        lambda: client.post(f"{RING}/pictures/000001", {"kept": False}),
        lambda: station.teaching.find("ring").change(
            pictures=[{"id": "000001", "time": "2026-11-29T08:00:00", "looks": "blurred"}]
        ),
    ):
        change()
        revisions.append(listed("?pictures=false")["revision"])
    assert len(set(revisions)) == len(revisions)
    client.post(f"{RING}/collecting", {"on": True})
    all_of_it, brief = listed(""), listed("?pictures=false")
    assert len(all_of_it["pictures"]) == 1
    assert brief == {**all_of_it, "pictures": []}
    assert brief["revision"] == revisions[-1]


def test_collecting_and_training_are_switched_and_refused_in_words(
    client: Client, station: FakeStation
) -> None:
    make(client)
    on = json.loads(client.post(f"{RING}/collecting", {"on": True}).data)
    assert on["collecting"]
    take(client, station, 1)
    refused = client.ask("POST", f"{RING}/training")
    assert refused.status == 409
    assert "too few different parts (1)" in json.loads(refused.data)["error"]
    take(client, station, *range(2, 12))
    started = client.ask("POST", f"{RING}/training")
    assert started.status == 202
    running = json.loads(started.data)
    assert (running["training"]["state"], running["collecting"]) == ("running", False)
    assert client.ask("POST", f"{RING}/training").status == 409
    assert client.ask("DELETE", RING).status == 409
    assert json.loads(client.ask("DELETE", f"{RING}/training").data)["training"]
    wait_for(lambda: json.loads(client.get(RING).data)["training"]["state"] == "cancelled", 20)
    assert client.ask("DELETE", f"{RING}/training").status == 409


def test_the_report_runs_its_scripts_and_can_reach_nothing(
    client: Client, station: FakeStation
) -> None:
    make(client)
    assert client.get(f"{RING}/report").status == 404
    station.teaching.find("ring").files.report.write_text("<script>1</script>")
    answer = client.get(f"{RING}/report")
    assert answer.data == b"<script>1</script>"
    policy = answer.headers["content-security-policy"]
    assert "sandbox allow-scripts;" in policy
    assert "default-src 'none'" in policy
    assert "allow-same-origin" not in policy
    assert "connect-src" not in policy


def test_a_finished_model_is_taken_in_and_its_size_is_bounded(
    client: Client, sound_model: Callable[..., Path], monkeypatch: pytest.MonkeyPatch,
    station: FakeStation,
) -> None:  # fmt: skip
    make(client)
    data = sound_model().read_bytes()
    answer = client.ask("POST", f"{RING}/model", body=data, headers=BYTES)
    assert answer.status == 200, answer.data
    model = json.loads(answer.data)["model"]
    assert model["id"] == station.site.stored()[0].hash
    bad = client.ask("POST", f"{RING}/model", body=b"no model", headers=BYTES)
    assert bad.status == 409
    assert client.ask("POST", f"{RING}/model", body=data).status == 415
    assert client.ask("POST", f"{RING}/model", body=b"", headers=BYTES).status == 400
    assert client.ask("POST", "/api/teach/nut/model", body=data, headers=BYTES).status == 404
    monkeypatch.setattr(teach_routes, "MOST_MODEL", 100)
    assert client.ask("POST", f"{RING}/model", body=data, headers=BYTES).status == 413
    chunked = client.ask("POST", f"{RING}/model", body=iter([data]), headers=BYTES, chunked=True)
    assert chunked.status == 413
    folder = station.teaching.find("ring").files.folder
    assert [path.name for path in folder.iterdir()] == ["record.json"]


@pytest.mark.parametrize("chunked", [False, True])
def test_a_file_that_is_sent_leaves_some_of_the_disk_free(
    chunked: bool, client: Client, station: FakeStation
) -> None:
    make(client)
    evidence = station.site.config.evidence.model_copy(update={"min_free_bytes": 1 << 60})
    config = station.site.config.model_copy(update={"evidence": evidence})
    station.site.config = config
    body = iter([b"model"]) if chunked else b"model"
    answer = client.ask("POST", f"{RING}/model", body=body, headers=BYTES, chunked=chunked)
    assert answer.status == 503
    assert "must stay free" in json.loads(answer.data)["error"]
    folder = station.teaching.find("ring").files.folder
    assert [path.name for path in folder.iterdir()] == ["record.json"]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"name": "../etc", "camera": "left"}, 422),
        ({"name": "Ring", "camera": "left"}, 422),
        ({"name": "a" * 41, "camera": "left"}, 422),
        ({"name": "ring", "camera": "middle"}, 409),
        ({"name": "ring", "camera": "left", "region": {"x": 0, "y": 0, "width": 4, "height": 4}},
         422),
        ({"name": "ring", "camera": "left", "region": {"x": "1", "y": 0, "width": 8, "height": 8}},
         422),
        ({"name": "ring", "camera": "left", "more": 1}, 422),
        ({"camera": "left"}, 422),
    ],
)  # fmt: skip
def test_what_is_not_as_described_is_refused(
    client: Client, body: dict[str, object], status: int
) -> None:
    answer = client.post("/api/teach", body)
    assert answer.status == status
    assert json.loads(answer.data)["error"]


def test_paths_lead_nowhere_else(client: Client, station: FakeStation) -> None:
    make(client)
    take(client, station, 1)
    for path in ("000009", "..%2Frecord", "1", "000001.png"):
        assert client.get(f"{RING}/pictures/{path}").status in (404, 422), path
    assert client.get("/api/teach/..%2F..%2Fmodels").status in (404, 422)
    assert client.get(f"{RING}/pictures/000001?thumbnail=1").status == 422


def changing() -> list[tuple[str, str, object]]:
    """Returns every change: method, path and body."""
    return [
        ("POST", "/api/teach", {"name": "ring", "camera": "left"}),
        ("POST", f"{RING}/collecting", {"on": True}),
        ("POST", f"{RING}/pictures", None),
        ("POST", f"{RING}/pictures/000001", {"kept": False}),
        ("POST", f"{RING}/training", None),
        ("DELETE", f"{RING}/training", None),
        ("POST", f"{RING}/model", None),
        ("DELETE", RING, None),
    ]


def ask(client: Client, method: str, path: str, body: object, **headers: str) -> int:
    sent: dict[str, Any] = {"json": body} if body is not None else {}
    if path.endswith("/model"):
        sent, headers = {"body": b"no model"}, {**headers, **BYTES}
    return client.ask(method, path, headers=headers, **sent).status


def test_every_change_is_in_the_audit_trail(client: Client, station: FakeStation) -> None:
    station.site.frames["left"] = frame_of_part(1, size=64)
    for method, path, body in changing():
        ask(client, method, path, body)
    assert {one.action for one in station.audited} == {"teach"}
    assert {one.by for one in station.audited} == {"anybody"}
    assert {one.address for one in station.audited} == {"127.0.0.1"}
    told = [one.new or f"{one.old}: {one.error}" for one in station.audited]
    assert [line.split(" collect at")[0] for line in told] == [
        "ring: made for camera left",
        "ring: collecting begun",
        "ring: current frame taken",
        "ring: picture 000001 thrown out",
        "ring: training started: too few different parts (0):",
        "ring: training cancelled: ring is not being trained",
        told[6],
        "ring: deleted",
    ]
    assert told[6].startswith("ring: model uploaded: ")


def test_no_change_without_token_from_another_page_or_with_changes_off(
    station: FakeStation, tmp_path: Path
) -> None:
    def change(
        method: str, path: str, body: object, client: Client, headers: Mapping[str, str]
    ) -> int:
        return ask(client, method, path, body, **headers)

    changes = [partial(change, *one) for one in changing()]
    reads = ["/api/teach", RING, f"{RING}/report", f"{RING}/pictures.zip"]
    check_refused(station, tmp_path, changes, reads)
    assert station.teaching.view().datasets == []
    assert {one.action for one in station.audited} <= {"wrong_token"}


def test_a_long_body_is_refused(client: Client) -> None:
    body = {"name": "ring", "camera": "left", "more": "x" * (1 << 17)}
    assert client.post("/api/teach", body).status == 413


def test_the_description_has_every_route(client: Client) -> None:
    paths = json.loads(client.get("/openapi.json").data)["paths"]
    found = {
        (method.upper(), path)
        for path, one in paths.items()
        if path.startswith("/api/teach")
        for method in one
    }
    named = {(method, path.replace("ring", "{name}").replace("000001", "{id}"))
             for method, path, _ in changing()}  # fmt: skip
    assert named <= found
    assert len(found) == 13
