from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import cv2
import numpy as np
import pytest
from PIL import Image as PillowImage

from differnet_runtime.cli import main
from differnet_runtime.images import read_image, write_image
from differnet_runtime.inspection.capture_record import CaptureRecord, read_capture
from tests.drawn import draw_part
from tests.servers import require

Make = Callable[..., Path]
Captured = pytest.CaptureFixture[str]


def capture(source: Path | str, folder: Path, *options: object) -> int:
    return main(
        ["capture", "--camera", str(source), "--output", str(folder), "--settle", "0"]
        + [str(option) for option in options]
    )


def record_of(folder: Path) -> CaptureRecord:
    record = read_capture(folder)
    assert record is not None
    return record


class Webcam:
    """A USB camera whose pictures get brighter one by one; dies after `lives` reads."""

    lives: ClassVar[int] = 10**6
    locked: ClassVar[bool] = True
    exposure: ClassVar[float] = 157.0
    total: ClassVar[int] = 0

    def __init__(self, *_: object) -> None:
        self.reads = 0
        self.values = {
            cv2.CAP_PROP_AUTO_EXPOSURE: 3.0,
            cv2.CAP_PROP_EXPOSURE: type(self).exposure,
            cv2.CAP_PROP_GAIN: 12.0,
            cv2.CAP_PROP_AUTO_WB: 1.0,
            cv2.CAP_PROP_WB_TEMPERATURE: 4600.0,
        }

    def isOpened(self) -> bool:  # noqa: N802
        return True

    def get(self, prop: int) -> float:
        return self.values.get(prop, -1.0)

    def set(self, prop: int, value: float) -> bool:
        if prop in self.values and type(self).locked:
            self.values[prop] = value
            return True
        return False

    def grab(self) -> bool:
        return True

    def retrieve(self, _room: object) -> tuple[bool, np.ndarray | None]:
        self.reads += 1
        type(self).total += 1
        if self.reads > type(self).lives:
            return False, None
        return True, np.full((48, 64, 3), self.reads % 256, np.uint8)

    def release(self) -> None: ...


@pytest.fixture
def webcam(monkeypatch: pytest.MonkeyPatch) -> type[Webcam]:
    camera = type("Camera", (Webcam,), {})
    monkeypatch.setattr(cv2, "VideoCapture", camera)
    return camera


def test_pictures_are_whole_frames_numbered_from_1(webcam: type, tmp_path: Path) -> None:
    folder = tmp_path / "good"
    assert capture(0, folder, "--count", 3, "--roi", "4,5,20,30", "--fit", "crop") == 0
    names = sorted(path.name for path in folder.iterdir())
    assert names == ["000001.png", "000002.png", "000003.png", "capture.json"]
    assert [int(read_image(folder / name)[0, 0, 0]) for name in names[:3]] == [1, 2, 3]
    assert read_image(folder / "000001.png").shape == (48, 64, 3)
    record = record_of(folder)
    assert (record.source, str(record.roi), record.fit) == ("0", "4,5,20,30", "crop")
    assert record.frame_size == (64, 48)


def test_the_settings_are_locked_and_written_down(webcam: type, tmp_path: Path) -> None:
    assert capture(0, tmp_path, "--count", 1, "--gain", 7) == 0
    settings = record_of(tmp_path).settings
    assert settings.requested == {"exposure": 157.0, "gain": 7.0, "white_balance": 4600.0}
    assert settings.actual == settings.requested


def test_refused_settings_are_warned_of_and_written_down(
    webcam: type, tmp_path: Path, capsys: Captured
) -> None:
    webcam.locked = False
    assert capture(0, tmp_path, "--count", 1, "--exposure", 80) == 0
    shown = capsys.readouterr().err
    assert "warning: the driver does not switch off automatic exposure" in shown
    settings = record_of(tmp_path).settings
    assert (settings.requested["exposure"], settings.actual["exposure"]) == (80.0, 157.0)


def test_a_second_capture_numbers_on_and_keeps_region_and_settings(
    webcam: type, tmp_path: Path
) -> None:
    capture(0, tmp_path, "--count", 2, "--roi", "0,0,20,20", "--fit", "letterbox", "--exposure", 80)
    first = record_of(tmp_path)
    before = (tmp_path / "000002.png").read_bytes()
    webcam.exposure = 300.0
    assert capture(0, tmp_path, "--count", 2) == 0
    assert len(list(tmp_path.glob("*.png"))) == 4
    assert (tmp_path / "000002.png").read_bytes() == before
    assert record_of(tmp_path) == first


def test_pictures_that_were_there_are_never_overwritten(webcam: type, tmp_path: Path) -> None:
    (tmp_path / "000007.png").write_bytes(b"mine")
    assert capture(0, tmp_path, "--count", 2) == 0
    assert (tmp_path / "000007.png").read_bytes() == b"mine"
    assert (tmp_path / "000009.png").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--roi", "1,1,20,20"], "region of interest 0,0,20,20; 1,1,20,20 was asked for"),
        (["--fit", "crop"], "fit stretch; crop was asked for"),
        (["--choose-roi"], "has its region of interest already"),
    ],
)
def test_one_folder_holds_one_region_and_fit(
    webcam: type, tmp_path: Path, options: list[str], message: str, capsys: Captured
) -> None:
    capture(0, tmp_path, "--count", 1, "--roi", "0,0,20,20")
    assert capture(0, tmp_path, "--count", 1, *options) == 2
    assert message in capsys.readouterr().err
    assert len(list(tmp_path.glob("*.png"))) == 1


def test_a_region_for_a_folder_of_whole_frames_is_refused(
    webcam: type, tmp_path: Path, capsys: Captured
) -> None:
    capture(0, tmp_path, "--count", 1)
    assert capture(0, tmp_path, "--count", 1, "--roi", "0,0,20,20") == 2
    assert "(the whole frame); 0,0,20,20 was asked for" in capsys.readouterr().err


def test_a_camera_that_dies_leaves_its_pictures_and_says_how_to_go_on(
    webcam: type, tmp_path: Path, capsys: Captured
) -> None:
    webcam.lives = 4
    assert capture(0, tmp_path, "--count", 10) == 2
    shown = capsys.readouterr().err
    assert "stopped giving frames" in shown
    assert "4 of 10 pictures were saved" in shown
    assert "--count 6" in shown
    assert len(list(tmp_path.glob("0*.png"))) == 4
    assert record_of(tmp_path).frame_size == (64, 48)


def test_an_interrupt_says_how_to_go_on(
    webcam: type, tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(self: Webcam, room: object) -> tuple[bool, np.ndarray | None]:
        if self.reads == 2:
            raise KeyboardInterrupt
        return Webcam.retrieve(self, room)

    webcam.retrieve = interrupt
    assert capture(0, tmp_path, "--count", 10) == 130
    assert "2 of 10 pictures were saved" in capsys.readouterr().err


def test_pictures_with_another_size_are_refused(
    webcam: type, tmp_path: Path, pictures: Make, capsys: Captured
) -> None:
    capture(0, tmp_path, "--count", 1)
    assert capture(pictures(1, 2), tmp_path, "--count", 1) == 2
    assert "have 64 x 48 pixels; this camera gives 32 x 32" in capsys.readouterr().err


@pytest.mark.parametrize(("settle", "interval"), [("0.5", "0"), ("0", "0.5")])
def test_frames_that_come_while_it_settles_or_waits_are_dropped(
    webcam: type, tmp_path: Path, settle: str, interval: str
) -> None:
    webcam.total = 0
    arguments = ["capture", "--camera=0", f"--output={tmp_path}", "--count=2"]
    assert main([*arguments, f"--settle={settle}", f"--interval={interval}"]) == 0
    assert len(list(tmp_path.glob("0*.png"))) == 2
    assert webcam.total > 10


def test_a_region_outside_the_frame_is_refused_before_anything_is_written(
    webcam: type, tmp_path: Path, capsys: Captured
) -> None:
    assert capture(0, tmp_path / "good", "--roi", "60,0,20,20") == 2
    assert "does not lie inside the camera's frame of 64 x 48" in capsys.readouterr().err
    assert not (tmp_path / "good").exists()


@pytest.mark.parametrize("roi", ["1,2,3", "a,b,c,d", "-1,0,20,20", "0,0,4,4", ""])
def test_a_region_that_is_none_is_refused(
    webcam: type, tmp_path: Path, roi: str, capsys: Captured
) -> None:
    with pytest.raises(SystemExit) as caught:
        capture(0, tmp_path, f"--roi={roi}")
    assert caught.value.code == 2
    assert "X,Y,WIDTH,HEIGHT" in capsys.readouterr().err


def test_a_region_can_not_be_dragged_without_a_window(
    webcam: type, tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    assert capture(0, tmp_path / "good", "--choose-roi") == 2
    assert "--roi X,Y,W,H" in capsys.readouterr().err


@pytest.mark.parametrize(("dragged", "code"), [((3, 4, 20, 21), 0), ((0, 0, 0, 0), 2)])
def test_a_region_can_be_dragged(
    webcam: type,
    tmp_path: Path,
    dragged: tuple[int, ...],
    code: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr(cv2, "namedWindow", lambda *_: None)
    monkeypatch.setattr(cv2, "destroyWindow", lambda *_: None)
    monkeypatch.setattr(cv2, "selectROI", lambda *_, **__: dragged)
    assert capture(0, tmp_path, "--count", 1, "--choose-roi") == code
    if code == 0:
        assert str(record_of(tmp_path).roi) == "3,4,20,21"


def test_a_source_without_controls_can_be_captured_but_not_set(
    pictures: Make, tmp_path: Path, capsys: Captured
) -> None:
    folder = pictures(10, 20, 30)
    (folder / "001.png").write_bytes(b"")
    assert capture(folder, tmp_path / "out", "--count", 2) == 0
    assert "left out: 001.png" in capsys.readouterr().err
    assert int(read_image(tmp_path / "out" / "000002.png").mean()) == 30
    assert capture(folder, tmp_path / "other", "--gain", 3) == 2
    assert "gain can be set on a device only" in capsys.readouterr().err


def test_a_source_that_ends_too_early_says_so(
    pictures: Make, tmp_path: Path, capsys: Captured
) -> None:
    assert capture(pictures(1, 2), tmp_path / "out", "--count", 5) == 2
    shown = capsys.readouterr().err
    assert "has no more frames" in shown
    assert "2 of 5 pictures were saved" in shown


def belt(folder: Path, parts: int, times: int) -> Path:
    """Noisy frames of parts that stand before the camera one after the other."""
    folder.mkdir()
    for k in range(parts * times):
        noise = 2.0 * np.random.RandomState(k).randn(64, 64, 3)
        frame = np.clip(draw_part(k // times) + noise, 0, 255).astype(np.uint8)
        cv2.imwrite(str(folder / f"{k:03d}.png"), frame)
    return folder


def test_frames_that_show_nothing_new_are_left_out(tmp_path: Path, capsys: Captured) -> None:
    source = belt(tmp_path / "belt", 12, 10)
    assert capture(source, tmp_path / "good", "--count", 120) == 0
    said = capsys.readouterr().out
    assert "12 pictures were saved" in said
    assert "108 frames were left out" in said
    assert "12 pictures of 12 different parts" in said
    assert len(list((tmp_path / "good").glob("*.png"))) == 12


def test_all_frames_can_be_kept(tmp_path: Path, capsys: Captured) -> None:
    source = belt(tmp_path / "belt", 4, 5)
    assert capture(source, tmp_path / "good", "--count", 20, "--keep-similar") == 0
    said = capsys.readouterr().out
    assert "left out" not in said
    assert "20 pictures of 4 different parts" in said


def test_parts_that_differ_in_fine_grain_alone_are_all_saved(tmp_path: Path) -> None:
    source = tmp_path / "belt"
    source.mkdir()
    for k in range(6):
        random = np.random.RandomState(k)
        grain = 30 * cv2.GaussianBlur(random.randn(64, 64), (0, 0), 2.0)[:, :, None]
        frame = draw_part(0) + grain + 2.0 * random.randn(64, 64, 3)
        cv2.imwrite(str(source / f"{k}.png"), np.clip(frame, 0, 255).astype(np.uint8))
    assert capture(source, tmp_path / "good", "--count", 6) == 0
    assert len(list((tmp_path / "good").glob("*.png"))) == 6


def test_frames_without_a_part_are_warned_of_by_name(
    webcam: type, tmp_path: Path, capsys: Captured
) -> None:
    assert capture(0, tmp_path, "--count", 3) == 0
    shown = capsys.readouterr().err
    assert "3 of 3 pictures" in shown
    assert "000001.png: constant" in shown


def test_pictures_come_through_the_pipeline_that_will_be_judged(tmp_path: Path) -> None:
    require("gst-launch-1.0")
    source = "gst:videotestsrc is-live=true pattern=snow ! video/x-raw,width=64,height=48"
    folder = tmp_path / "good"
    assert capture(source, folder, "--count", 3) == 0
    assert [read_image(folder / f"{n:06d}.png").shape for n in (1, 2, 3)] == [(48, 64, 3)] * 3
    assert record_of(folder).source.startswith("gst:videotestsrc")


def test_an_animated_picture_is_named_and_left_out(tmp_path: Path, capsys: Captured) -> None:
    source = tmp_path / "taken"
    source.mkdir()
    frames = [PillowImage.fromarray(draw_part(n)) for n in (1, 2)]
    frames[0].save(source / "a.webp", save_all=True, append_images=frames[1:], duration=50)
    for number in (3, 4):
        write_image(source / f"b{number}.png", draw_part(number))
    assert capture(source, tmp_path / "good", "--count", 2) == 0
    assert "a.webp: it holds 2 frames" in capsys.readouterr().err
