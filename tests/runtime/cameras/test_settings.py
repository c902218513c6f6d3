import math
import sys

import cv2
import pytest

from differnet_runtime.cameras.base import Setting
from differnet_runtime.cameras.device import apply_settings, lock_settings

AUTO_EXPOSURE, EXPOSURE = cv2.CAP_PROP_AUTO_EXPOSURE, cv2.CAP_PROP_EXPOSURE
GAIN, AUTO_WB, WB = cv2.CAP_PROP_GAIN, cv2.CAP_PROP_AUTO_WB, cv2.CAP_PROP_WB_TEMPERATURE
MANUAL = 1.0 if sys.platform == "linux" else 0.25


class Webcam:
    """A driver as they are: manual exposure falls back to an old value, and sets are rounded."""

    def __init__(self, **refuses: bool) -> None:
        self.values = {AUTO_EXPOSURE: 3.0, EXPOSURE: 157.0, GAIN: 12.0, AUTO_WB: 1.0, WB: 4600.0}
        self.refused: set[int] = set()
        self.calls: list[tuple[int, float]] = []

    def get(self, prop: int) -> float:
        return self.values.get(prop, -1.0)

    def set(self, prop: int, value: float) -> bool:
        self.calls.append((prop, value))
        if prop in self.refused or prop not in self.values:
            return False
        self.values[prop] = float(round(value))
        if prop == AUTO_EXPOSURE:
            self.values[EXPOSURE] = 250.0
        return True


def by_name(settings: list[Setting]) -> dict[str, Setting]:
    return {setting.name: setting for setting in settings}


def test_what_the_automatics_found_is_kept() -> None:
    camera = Webcam()
    settings = by_name(lock_settings(camera, {}))
    assert camera.values == {AUTO_EXPOSURE: MANUAL, EXPOSURE: 157, GAIN: 12, AUTO_WB: 0, WB: 4600}
    assert settings["exposure"] == Setting("exposure", 157.0, 157.0)
    assert [setting.warning for setting in settings.values()] == [None, None, None]


def test_values_that_were_asked_for_are_set() -> None:
    camera = Webcam()
    settings = by_name(lock_settings(camera, {"exposure": 80.0, "gain": None}))
    assert camera.values[EXPOSURE] == 80.0
    assert camera.values[GAIN] == 12.0
    assert settings["exposure"].requested == settings["exposure"].actual == 80.0


def test_a_value_that_the_driver_rounds_is_no_warning() -> None:
    settings = by_name(lock_settings(Webcam(), {"gain": 1.5}))
    assert settings["gain"] == Setting("gain", 1.5, 2.0)


def test_the_automatic_goes_off_before_its_value_is_set() -> None:
    camera = Webcam()
    lock_settings(camera, {})
    order = [prop for prop, _ in camera.calls]
    assert order.index(AUTO_EXPOSURE) < order.index(EXPOSURE)
    assert order.index(AUTO_WB) < order.index(WB)


@pytest.mark.parametrize(
    ("refused", "name", "warning"),
    [
        (AUTO_EXPOSURE, "exposure", "does not switch off automatic exposure"),
        (AUTO_WB, "white_balance", "does not switch off automatic white_balance"),
        (GAIN, "gain", "refuses gain 12"),
    ],
)
def test_what_the_driver_refuses_is_said(refused: int, name: str, warning: str) -> None:
    camera = Webcam()
    camera.refused = {refused}
    settings = by_name(lock_settings(camera, {}))
    assert warning in (settings[name].warning or "")
    assert sum(setting.warning is not None for setting in settings.values()) == 1


def test_a_value_that_came_out_different_is_said() -> None:
    class Clamping(Webcam):
        def set(self, prop: int, value: float) -> bool:
            return super().set(prop, min(value, 100.0) if prop == GAIN else value)

    setting = by_name(lock_settings(Clamping(), {"gain": 400.0}))["gain"]
    assert (setting.requested, setting.actual) == (400.0, 100.0)
    assert setting.warning == "gain 400 was asked for, the camera reports 100"


@pytest.mark.parametrize("unknown", [-1.0, math.nan])
def test_a_control_that_the_camera_does_not_have_is_left_alone(unknown: float) -> None:
    camera = Webcam()
    camera.values[GAIN] = unknown
    setting = by_name(lock_settings(camera, {}))["gain"]
    assert setting == Setting("gain", None, None, "the camera reports no gain")
    assert GAIN not in [prop for prop, _ in camera.calls]


class Formed(Webcam):
    """Also takes a size and a rate, as far as it has them."""

    def __init__(self, letters: str = "MJPG") -> None:
        super().__init__()
        self.values |= {
            cv2.CAP_PROP_FRAME_WIDTH: 640.0,
            cv2.CAP_PROP_FRAME_HEIGHT: 480.0,
            cv2.CAP_PROP_FPS: 30.0,
            cv2.CAP_PROP_FOURCC: float(cv2.VideoWriter.fourcc(*letters)),
        }

    def set(self, prop: int, value: float) -> bool:
        if prop == cv2.CAP_PROP_FRAME_WIDTH:
            value = min(value, 1280.0)
        return super().set(prop, value)


def applied(camera: Webcam, **asked: float) -> dict[str, Setting]:
    form = {name: asked.get(name) for name in ("width", "height", "fps")}
    return by_name(apply_settings(camera, fourcc="MJPG", form=form, wanted=asked))


def test_what_a_station_does_not_ask_for_is_left_alone() -> None:
    camera = Formed()
    settings = applied(camera)
    assert camera.calls == []
    assert [(s.requested, s.warning) for s in settings.values() if s.name != "fourcc"] == [
        (None, None)
    ] * 6
    assert (settings["width"].actual, settings["fps"].actual) == (640, 30)
    assert (settings["exposure"].actual, settings["gain"].actual) == (157, 12)


def test_what_a_station_asks_for_is_set_and_read_back() -> None:
    camera = Formed()
    settings = applied(camera, width=1920, height=1080, fps=15, exposure=80)
    assert settings["width"].warning == "width 1920 was asked for, the camera reports 1280"
    assert (settings["height"].actual, settings["height"].warning) == (1080, None)
    assert settings["fps"].actual == 15
    assert (camera.values[EXPOSURE], camera.values[AUTO_EXPOSURE]) == (80, MANUAL)
    assert (camera.values[GAIN], camera.values[AUTO_WB]) == (12, 1)
    order = [prop for prop, _ in camera.calls]
    assert order.index(cv2.CAP_PROP_FRAME_WIDTH) < order.index(cv2.CAP_PROP_FPS)


def test_another_pixel_format_than_asked_for_is_told() -> None:
    assert applied(Formed())["fourcc"].warning is None
    warning = applied(Formed("YUYV"))["fourcc"].warning
    assert warning == "pixel format 'MJPG' was asked for, the camera reports 'YUYV'"
    assert "reports none" in str(applied(Webcam())["fourcc"].warning)
