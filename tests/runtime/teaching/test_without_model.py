"""Good parts are collected, and a model is added and used, at a station that had none."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from differnet_runtime.config import Config
from differnet_runtime.station.station import Station
from tests.drawn import draw_part
from tests.runtime.waiting import wait_for


@pytest.mark.parametrize("kind", ["live", "a folder"])
def test_a_station_without_a_model_is_taught(
    kind: str, tmp_path: Path, sound_model: Callable[..., Path]
) -> None:
    pictures = tmp_path / "in"
    pictures.mkdir()
    clip = tmp_path / "belt.avi"
    writer = cv2.VideoWriter(str(clip), cv2.VideoWriter.fourcc(*"MJPG"), 5, (64, 64))
    for seed in range(20):
        part = np.asarray(draw_part(seed, defect=False, size=64))
        writer.write(part)
        path = pictures / f"{seed:02}.png"
        cv2.imwrite(str(path), part)
        os.utime(path, (1.7e9, 1.7e9))
    writer.release()
    source = {"source": str(clip), "kind": "video", "paced": True}
    if kind == "a folder":
        source = {"source": str(pictures), "kind": "folder"}
    config = Config.model_validate(
        {
            "station": {"state": tmp_path / "state"},
            "model": {"store": "part", "backend": "onnxruntime-cpu", "threads": 1},
            "camera": {"top": source},
            "evidence": {"keep": "none"},
            "web": {"enabled": False},
        }
    )
    station = Station(config, tmp_path / "models")
    station.start()
    try:
        station.teaching.create("part", "top", None)
        station.teaching.collect("part", on=True)
        wait_for(lambda: station.teaching.dataset("part").parts >= 3, 30.0)
        station.teaching.collect("part", on=False)
        view = station.teaching.add_model("part", sound_model())
        assert view.model is not None
        station.control.activate(view.model.id)
        wait_for(lambda: station.control.health().ready, 30.0)
    finally:
        station.stop()
