"""Models on trial, and notes on models, over HTTP."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from differnet_runtime.errors import ModelStoreError
from differnet_runtime.web.model_views import ShadowView
from tests.fakes.station import HASHES, FakeStation
from tests.runtime.waiting import wait_for
from tests.runtime.web.client import Client
from tests.runtime.web.guarded import check_refused

SHADOW, NOTE = "/api/cameras/left/shadow", f"/api/models/{HASHES[1]}/note"


def put(client: Client, path: str, body: Any, **headers: str) -> tuple[int, Any]:
    answer = client.ask("PUT", path, json=body, headers=headers)
    return answer.status, json.loads(answer.data)


def audited(station: FakeStation, action: str) -> list[tuple[str | None, str | None]]:
    return [(one.old, one.new) for one in station.audited if one.action == action]


def test_a_trial_is_begun_looked_at_and_ended(client: Client, station: FakeStation) -> None:
    assert client.get(SHADOW).status == 404
    status, begun = put(client, SHADOW, {"model": HASHES[1]})
    assert (status, begun["model"], begun["camera"]) == (200, HASHES[1], "left")
    seen = json.loads(client.get(SHADOW).data)
    assert seen == begun
    assert set(seen) == {
        "camera", "model", "since", "state", "error", "judged", "skipped", "agree",
        "only_live_rejects", "only_shadow_rejects", "differing", "said",
    }  # fmt: skip
    (one,) = seen["differing"]
    assert one["live"]["verdict"] == "DEFECT"
    picture = client.get(f"{SHADOW}/{one['id']}")
    assert (picture.status, picture.headers["content-type"]) == (200, "image/jpeg")
    assert client.get(f"{SHADOW}/77").status == 404
    cameras = json.loads(client.get("/api/overview").data)["cameras"]
    assert [camera["shadow"] for camera in cameras] == [HASHES[1], None]
    ended = client.ask("DELETE", SHADOW)
    assert (ended.status, ended.data) == (204, b"")
    assert client.ask("DELETE", SHADOW).status == 204
    assert client.get(SHADOW).status == 404
    told = f"left: trial of {HASHES[1][:12]}"
    none = "left: no trial"
    assert audited(station, "shadow") == [(none, told), (told, none)]


def test_what_can_not_be_tried_is_a_conflict(client: Client, station: FakeStation) -> None:
    status, said = put(client, SHADOW, {"model": HASHES[0]})
    assert status == 409
    assert "can't be tried" in said["error"]
    assert station.audited[-1].error == said["error"]
    for body, expected in (({"model": "short"}, 422), ({}, 422), ({"model": None}, 422)):
        assert put(client, SHADOW, body)[0] == expected
    assert put(client, "/api/cameras/none/shadow", {"model": HASHES[1]})[0] == 404
    refused = client.post(SHADOW, {})
    assert (refused.status, refused.headers["allow"]) == (405, "DELETE, GET, PUT, HEAD")


def test_trials_that_take_long_keep_no_reader_waiting(
    client: Client, station: FakeStation, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go = [], threading.Event()

    def slow(camera: str, model: str) -> ShadowView:
        begun.append(camera)
        go.wait(20)
        raise ModelStoreError(f"{model} can't be tried")

    monkeypatch.setattr(station, "start_shadow", slow)
    with ThreadPoolExecutor(16) as pool:
        asked = [pool.submit(put, client, SHADOW, {"model": HASHES[1]}) for _ in range(16)]
        try:
            wait_for(lambda: len(begun) == 16)
            assert client.get("/api/overview").status == 200
            assert not any(one.done() for one in asked)
        finally:
            go.set()


def test_a_note_is_kept_and_told(client: Client, station: FakeStation) -> None:
    status, noted = put(client, NOTE, {"note": "new lamp"})
    assert (status, noted["note"], noted["id"]) == (200, "new lamp", HASHES[1])
    card = ("own_name", "trained", "parts", "detection_limit")
    assert [noted[key] for key in card] == [
        "ring", "2026-11-21T07:30:00+00:00", 40, "scratch from 9 px at contrast 40",
    ]  # fmt: skip
    listed = json.loads(client.get("/api/models").data)["models"]
    assert [model["note"] for model in listed] == [None, "new lamp"]
    assert audited(station, "note") == [(None, f"ring {HASHES[1][:12]}: new lamp")]
    assert put(client, NOTE, {"note": None})[0] == 200
    assert put(client, f"/api/models/{'c' * 64}/note", {"note": "x"})[0] == 404
    for wrong in ({"note": "x" * 1001}, {"note": "\x1b"}, {"note": 1}, {"other": "x"}):
        assert put(client, NOTE, wrong)[0] == 422


def test_the_guard_stands_before_them(station: FakeStation, tmp_path: Path) -> None:
    def change(
        method: str, path: str, body: object, client: Client, headers: Mapping[str, str]
    ) -> int:
        return client.ask(method, path, json=body, headers=headers).status

    changes = [
        partial(change, "PUT", SHADOW, {"model": HASHES[1]}),
        partial(change, "DELETE", SHADOW, {}),
        partial(change, "PUT", NOTE, {"note": "new lamp"}),
    ]
    check_refused(station, tmp_path, changes, reads=[SHADOW])
    assert not station.shadows
    assert not station.notes
