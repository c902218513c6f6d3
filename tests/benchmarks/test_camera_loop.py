from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks import camera_loop, station_of_cells


def test_a_few_frames_go_through_the_station_s_loop(
    monkeypatch: pytest.MonkeyPatch, exported: Path
) -> None:
    pytest.importorskip("elpv_dataset")
    monkeypatch.setattr(camera_loop, "WARM_UP", 1)
    monkeypatch.setattr(camera_loop, "gc", SimpleNamespace(freeze=lambda: None))
    monkeypatch.setattr(station_of_cells, "VIDEO_FRAMES", 4)
    monkeypatch.setattr(station_of_cells, "default_model", lambda: exported)
    found = camera_loop.overhead(320, 240, frames=3, runs=1)
    assert found["verdicts"] == {"GOOD": 3}
    assert set(found["stages_ms"]) == set(camera_loop.STAGES)
