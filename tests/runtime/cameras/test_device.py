import os
from typing import ClassVar

import cv2
import numpy as np
import pytest

from differnet_runtime.cameras.device import DeviceCamera
from differnet_runtime.config.models import CameraConfig


class Driver:
    """Stands in for V4L2, of which there is none here: gives one picture after another."""

    image: ClassVar[np.ndarray] = np.zeros((4, 4, 3), np.uint8)
    made: ClassVar[list["Driver"]] = []

    def __init__(self, *arguments: object) -> None:
        self.properties: dict[int, float] = {}
        self.order: list[int] = []
        self.made.append(self)

    def isOpened(self) -> bool:  # noqa: N802
        return True

    def set(self, prop: int, value: float) -> bool:
        self.properties[prop] = value
        self.order.append(prop)
        return True

    def get(self, prop: int) -> float:
        return self.properties.get(prop, -1.0)

    def grab(self) -> bool:
        return True

    def retrieve(self, _buffer: object) -> tuple[bool, np.ndarray]:
        return True, self.image

    def release(self) -> None:
        pass


def opened(monkeypatch: pytest.MonkeyPatch, image: np.ndarray, **options: object) -> DeviceCamera:
    monkeypatch.setattr(Driver, "image", image)
    monkeypatch.setattr(cv2, "VideoCapture", Driver)
    monkeypatch.setattr(os, "environ", dict(os.environ))
    Driver.made.clear()
    return DeviceCamera(CameraConfig(source="0", kind="device", **options))  # type: ignore[arg-type]


def test_compressed_pictures_are_asked_for_before_the_size(monkeypatch: pytest.MonkeyPatch) -> None:
    camera = opened(monkeypatch, np.zeros((4, 4, 3), np.uint8), width=64, height=48, stall_s=3)
    (driver,) = Driver.made
    assert driver.get(cv2.CAP_PROP_FOURCC) == cv2.VideoWriter.fourcc(*"MJPG")
    assert driver.order.index(cv2.CAP_PROP_FOURCC) < driver.order.index(cv2.CAP_PROP_FRAME_WIDTH)
    assert driver.get(cv2.CAP_PROP_CONVERT_RGB) == 0  # they are decoded here, strictly
    assert {setting.name: setting.actual for setting in camera.settings}["width"] == 64
    assert os.environ["OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT"] == "3"


def test_a_mosaic_is_asked_for_raw_and_filled_in(monkeypatch: pytest.MonkeyPatch) -> None:
    camera = opened(monkeypatch, np.full((8, 8), 9, np.uint8), format="bayer_bggr")
    (driver,) = Driver.made
    assert driver.get(cv2.CAP_PROP_FOURCC) == cv2.VideoWriter.fourcc(*"BA81")
    assert driver.get(cv2.CAP_PROP_CONVERT_RGB) == 0
    frame = camera.read()
    assert frame is not None
    assert frame.image.shape == (8, 8, 3)
