"""What the API answers, and how it refuses."""

from __future__ import annotations

import json
import time

import cv2
import numpy as np
import pytest

from differnet_runtime.errors import ModelStoreError, StoreError
from differnet_runtime.events import InspectionEvent
from differnet_runtime.web.views import Health, Overview, ShownEvent
from tests.fakes.station import HASHES, FakeStation
from tests.runtime.web.client import Client


def test_health_has_a_status_and_reasons(client: Client, station: FakeStation) -> None:
    assert client.get("/livez").status == 200
    assert client.get("/readyz").status == 200
    station.seen["left"].state, station.seen["left"].reason = "stalled", "no frame for 3 s"
    station.alive = False
    assert client.get("/livez").status == 503
    answer = client.get("/readyz")
    assert answer.status == 503
    assert Health.model_validate_json(answer.data).reasons == [
        "camera:left: stalled: no frame for 3 s"
    ]


def test_verdicts_and_evidence_say_which_head_decided(client: Client, station: FakeStation) -> None:
    station.judge("left", defect=True)
    last = json.loads(client.get("/api/overview").data)["cameras"][0]["last"]
    kept = json.loads(client.get("/api/evidence?limit=1").data)["entries"][0]
    for found in (last, kept):
        assert found["decided_by"] == "the picture as a whole"
        assert found["note"].startswith("The picture as a whole is unusual; the heatmap")
    assert last["head"] == "whole"


def test_degraded_is_still_ready(client: Client, station: FakeStation) -> None:
    station.degraded.append("evidence: the disk is full")
    answer = client.get("/readyz")
    assert answer.status == 200
    assert Health.model_validate_json(answer.data).degraded


def test_the_overview_is_what_the_station_says(client: Client, station: FakeStation) -> None:
    overview = Overview.model_validate_json(client.get("/api/overview").data)
    assert [camera.name for camera in overview.cameras] == ["left", "right"]
    newest = station.seen["left"].last
    assert newest is not None
    assert overview.cameras[0].last == ShownEvent.of(newest)
    assert overview.engine == station.overview().engine


def test_the_live_picture_is_the_newest_one_and_says_its_age(
    client: Client, station: FakeStation
) -> None:
    first = client.get("/api/cameras/left/live.jpg")
    again = client.get("/api/cameras/left/live.jpg")
    assert first.headers["content-type"] == "image/jpeg"
    assert cv2.imdecode(np.frombuffer(first.data, np.uint8), cv2.IMREAD_COLOR).shape == (64, 64, 3)
    assert first.headers["x-frame-number"] == again.headers["x-frame-number"] == "2"
    assert int(again.headers["x-frame-age-ms"]) >= int(first.headers["x-frame-age-ms"]) >= 0
    station.judge("left")
    assert client.get("/api/cameras/left/live.jpg").headers["x-frame-number"] == "3"


def test_a_picture_brings_its_own_verdict(client: Client, station: FakeStation) -> None:
    for overlay in ("false", "true"):
        judged = station.judge("left", part="Grün-7")
        answer = client.get(f"/api/cameras/left/live.jpg?overlay={overlay}")
        assert ShownEvent.model_validate_json(answer.headers["x-event"]) == ShownEvent.of(judged)


def test_the_overlay_is_drawn_on_it(client: Client) -> None:
    drawn = client.get("/api/cameras/left/live.jpg?overlay=true").data
    shape = cv2.imdecode(np.frombuffer(drawn, np.uint8), cv2.IMREAD_COLOR).shape
    assert shape[0] > 64
    assert shape[1] >= 320


def test_no_picture_is_no_picture(client: Client, station: FakeStation) -> None:
    station.pictures["left"] = type(station.pictures["left"])()
    assert client.get("/api/cameras/left/live.jpg").status == 404


def test_events_go_on_after_a_number(client: Client, station: FakeStation) -> None:
    answer = json.loads(client.get("/api/events?limit=2").data)
    assert [one["number"] for one in answer["events"]] == [2, 3]
    station.judge("left", part="K7")
    later = json.loads(client.get(f"/api/events?after={answer['latest']}").data)
    (only,) = later["events"]
    assert InspectionEvent.model_validate(only["event"]).part == "K7"
    assert json.loads(client.get("/api/events?camera=right").data)["events"][0]["number"] == 3


def test_evidence_is_listed_and_given(client: Client, station: FakeStation) -> None:
    for _ in range(3):
        station.judge("left", defect=True)
    newest = json.loads(client.get("/api/evidence?limit=1").data)["entries"][0]
    older = json.loads(client.get(f"/api/evidence?before={newest['id']}").data)["entries"]
    assert len(older) == 3
    assert all(entry["at_s"] <= newest["at_s"] for entry in older)
    picture = client.get(f"/api/evidence/{newest['id']}/image")
    assert picture.headers["content-type"] == "image/png"
    assert picture.data == station.evidence_file(newest["id"], "image").read_bytes()
    assert client.get(f"/api/evidence/{newest['id']}/thumbnail").data == picture.data


@pytest.mark.parametrize(
    "path",
    [
        "/api/evidence/none/image",
        "/api/evidence/..%2f..%2fetc/image",
        "/api/evidence/%2e%2e/image",
        "/api/evidence/x/passwd",
        "/api/cameras/none/live.jpg",
        "/api/events?camera=none",
        "/static/index.html",
        "/static/..%2fserver.py",
        "/api/events/",
        "/nothing",
    ],
)
def test_what_is_not_there_is_404_in_words(reader: Client, path: str) -> None:
    answer = reader.get(path)
    assert answer.status == 404
    assert json.loads(answer.data)["error"]


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=2001", "limit=1e3", "limit=1_0", "limit=+1", "limit=", "after=-1",
     "after=1&after=2", "camera=A", "camera=%00", "unknown=1", "limit=%ff", "after=" + "9" * 30],
)  # fmt: skip
def test_a_query_is_read_strictly(reader: Client, query: str) -> None:
    answer = reader.get(f"/api/events?{query}")
    assert answer.status == 422
    assert json.loads(answer.data)["error"]


@pytest.mark.parametrize("query", ["unknown=1", "limit=1", "a&a"])
def test_an_address_without_keys_takes_none(reader: Client, query: str) -> None:
    for path in ("/api/overview", "/static/app.js", "/api/cameras/left/labels"):
        assert reader.get(f"{path}?{query}").status == 422


@pytest.mark.parametrize(
    "path", ["/", "/livez", "/api/overview", "/static/app.js", "/api/nothing", "/api/overview?a=1"]
)
def test_head_is_answered_like_get_without_the_body(reader: Client, path: str) -> None:
    asked, head = reader.get(path), reader.ask("HEAD", path)
    assert (head.status, head.data) == (asked.status, b"")
    assert head.headers["content-type"] == asked.headers["content-type"]


def test_a_model_is_switched_and_taken_back(client: Client, station: FakeStation) -> None:
    models = json.loads(client.post("/api/models/activate", {"hash": HASHES[1]}).data)["models"]
    assert [model["active"] for model in models] == [False, True]
    models = json.loads(client.post("/api/models/rollback", {}).data)["models"]
    assert [model["active"] for model in models] == [True, False]
    refused = client.post("/api/models/activate", {"hash": "c" * 64})
    assert refused.status == 409
    assert "no model" in json.loads(refused.data)["error"]
    assert station.active == 0


def test_a_part_is_judged_on_command(client: Client) -> None:
    answer = client.post("/api/cameras/right/trigger", {"part": "K7"})
    event = ShownEvent.model_validate_json(answer.data)
    assert (event.part, event.trigger) == ("K7", "http")
    assert client.post("/api/cameras/left/trigger", {"part": "K7"}).status == 409


def test_a_command_too_many_is_refused_at_once_and_counted(
    client: Client, station: FakeStation
) -> None:
    number = station.recent.number
    refused = client.post("/api/cameras/right/trigger", {"part": station.refused_part})
    assert (refused.status, refused.headers["retry-after"]) == (429, "1")
    assert "no more commands" in json.loads(refused.data)["error"]
    assert station.troubles.counts["commands"] == 1
    assert station.recent.number == number


@pytest.mark.parametrize(
    ("status", "sent"),
    [
        (415, {"body": b"{}"}),
        (415, {"fields": {"hash": "a"}}),
        (400, {"body": b"", "headers": {"Content-Type": "application/json"}}),
        (400, {"body": b"{", "headers": {"Content-Type": "application/json"}}),
        (400, {"body": b"\xff\xfe", "headers": {"Content-Type": "application/json"}}),
        (422, {"json": {}}),
        (422, {"json": {"hash": 1}}),
        (422, {"json": {"hash": None}}),
        (422, {"json": {"hash": "a" * 64, "more": 1}}),
        (422, {"json": [HASHES[0]]}),
        (413, {"json": {"hash": "a" * 70_000}}),
    ],
)
def test_a_body_is_read_strictly(reader: Client, status: int, sent: dict[str, object]) -> None:
    answer = reader.ask("POST", "/api/models/activate", **sent)
    assert answer.status == status
    assert "aaaaaaaaaaaaaaaaaaaa" not in json.loads(answer.data)["error"]


def test_another_method_is_405_and_names_the_right_one(reader: Client) -> None:
    answer = reader.ask("DELETE", "/api/models")
    assert answer.status == 405
    assert set(answer.headers["allow"].split(", ")) == {"GET", "HEAD"}
    assert reader.get("/api/models/activate").headers["allow"] == "POST"


def test_there_is_no_page_that_loads_scripts_from_elsewhere(reader: Client) -> None:
    assert reader.get("/docs").status == reader.get("/redoc").status == 404


def test_a_stations_trouble_is_503_and_a_bug_500_without_a_traceback(
    client: Client, station: FakeStation, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    def full() -> None:
        raise StoreError("/var: the disk is full")

    def bug() -> None:
        raise KeyError("secret inside")

    def locked() -> None:
        raise ModelStoreError("the store can't be read")

    def wrong() -> None:
        Overview.model_validate({"secret": "a bug too, and not the request's"})

    monkeypatch.setattr(station, "models", wrong)
    assert client.get("/api/models").status == 500
    monkeypatch.setattr(station, "models", full)
    assert client.get("/api/models").status == 503
    monkeypatch.setattr(station, "models", locked)
    assert client.get("/api/models").status == 409
    monkeypatch.setattr(station, "models", bug)
    answer = client.get("/api/models")
    assert answer.status == 500
    assert b"secret" not in answer.data
    assert b"Traceback" not in answer.data
    assert "secret inside" in caplog.text


def test_a_slow_call_keeps_nobody_waiting(
    client: Client, station: FakeStation, monkeypatch: pytest.MonkeyPatch
) -> None:
    import threading

    entered, leave = threading.Event(), threading.Event()

    def slow(_name: str | None) -> None:
        entered.set()
        leave.wait(30)

    monkeypatch.setattr(station, "rollback", slow)
    asked = threading.Thread(target=client.post, args=("/api/models/rollback", {}))
    asked.start()
    try:
        assert entered.wait(10)
        start = time.monotonic()
        assert client.get("/api/overview").status == 200
        assert time.monotonic() - start < 5
    finally:
        leave.set()
        asked.join(20)
