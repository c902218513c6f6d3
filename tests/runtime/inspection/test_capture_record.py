import json
from pathlib import Path

import pytest

from differnet_runtime.errors import DataError
from differnet_runtime.inspection.capture_record import (
    CAPTURE_FILE,
    CaptureRecord,
    CaptureSettings,
    read_capture,
    write_capture,
)
from differnet_runtime.model_file.contract import Region

RECORD = CaptureRecord(
    source="/dev/video0",
    roi=Region(x=1, y=2, width=30, height=40),
    fit="crop",
    settings=CaptureSettings(requested={"gain": 3.0}, actual={"gain": None}),
    frame_size=(640, 480),
    created="2025-01-02T03:04:05+00:00",
)


def test_a_record_comes_back(tmp_path: Path) -> None:
    write_capture(tmp_path, RECORD)
    assert read_capture(tmp_path) == RECORD


def test_a_folder_without_a_record_has_none(tmp_path: Path) -> None:
    assert read_capture(tmp_path) is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 2, "invented": 1}, "version: Input should be 1"),
        ({"zoom": 3}, "zoom: Extra inputs"),
        ({"roi": {"x": -1, "y": 0, "width": 9, "height": 9}}, r"roi\.x"),
        ({"fit": "zoom"}, "fit"),
    ],
)
def test_a_wrong_record_is_refused_by_key(tmp_path: Path, change: dict, message: str) -> None:
    fields = {**RECORD.model_dump(mode="json"), **change}
    (tmp_path / CAPTURE_FILE).write_text(json.dumps(fields))
    with pytest.raises(DataError, match=rf"capture\.json: {message}"):
        read_capture(tmp_path)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[]"])
def test_what_is_no_record_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / CAPTURE_FILE).write_bytes(content)
    with pytest.raises(DataError, match="the whole file"):
        read_capture(tmp_path)


def test_a_record_that_can_not_be_opened_is_named(tmp_path: Path) -> None:
    (tmp_path / CAPTURE_FILE).mkdir()
    with pytest.raises(DataError, match="directory"):
        read_capture(tmp_path)
