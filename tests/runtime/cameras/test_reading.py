"""Every live source reads into the memory that it is given, and the same pixels as without."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import cv2
import numpy as np
import pytest

from differnet_runtime.cameras.base import GetBuffer, no_buffer
from differnet_runtime.cameras.files import Remembered
from differnet_runtime.cameras.opencv import CaptureReader
from differnet_runtime.cameras.sources import locate, open_source
from differnet_runtime.config.models import CameraConfig
from differnet_runtime.errors import CameraError
from differnet_runtime.records import Image
from tests.fakes.clips import Clip
from tests.servers import require

PIPELINE = "gst:videotestsrc pattern=ball ! video/x-raw,height=48"


def read(get_buffer: GetBuffer, source: str, **options: object) -> list[Image]:
    config = locate(CameraConfig(source=source, **options))  # type: ignore[arg-type]
    nothing = Remembered()
    with open_source(config, nothing, get_buffer) as camera:
        frames = [camera.read() for _ in range(4)]
    return [frame.image for frame in frames if frame is not None]


def test_a_buffer_that_was_not_written_to_is_no_picture() -> None:
    """A decoder may fail after the grab; what lay in that memory is an older frame."""

    class Failing:
        def isOpened(self) -> bool:  # noqa: N802
            return True

        def get(self, _property: int) -> float:
            return 4.0

        def grab(self) -> bool:
            return True

        def retrieve(self, buffer: Image | None) -> tuple[bool, Image | None]:
            return buffer is None, np.zeros((4, 4, 3), np.uint8) if buffer is None else buffer

        def read(self, buffer: Image | None = None) -> tuple[bool, Image | None]:
            _, image = self.retrieve(buffer)
            return image is not None, image  # as OpenCV does it

    reader = CaptureReader(
        cast("cv2.VideoCapture", Failing()), lambda shape, dtype: np.full(shape, 7, dtype), "closed"
    )
    assert reader.read() is not None
    assert reader.read() is None


@pytest.mark.parametrize("told", [32_000.0, 0.0])
def test_a_camera_whose_pictures_are_huge_is_refused(told: float) -> None:
    class Huge:
        def isOpened(self) -> bool:  # noqa: N802
            return True

        def get(self, _property: int) -> float:
            return told

        def grab(self) -> bool:
            return True

        def retrieve(self, _buffer: Image | None) -> tuple[bool, Image]:
            return True, np.broadcast_to(np.uint8(7), (32_000, 32_000, 3))

    with pytest.raises(CameraError, match="32000 x 32000 pixels; at most 268,435,456"):
        CaptureReader(cast("cv2.VideoCapture", Huge()), no_buffer, "closed").read()


@pytest.mark.parametrize(
    ("source", "options", "apart"),
    [
        ("clip.mp4", {"kind": "video", "paced": True, "fps": 500}, 0),
        ("clip.mp4", {"kind": "stream"}, 0),
        (f"{PIPELINE},width=64", {}, 0),
        (f"{PIPELINE},width=64", {"format": "mono"}, 0),
        (f"{PIPELINE},width=64,format=GRAY16_LE", {"format": "mono"}, 0),
        (f"{PIPELINE},width=62,format=GRAY8", {"format": "mono"}, 4),  # its rows are filled up
    ],
)
def test_pictures_lie_in_the_buffer(
    source: str, options: dict[str, object], apart: int, tmp_path: Path
) -> None:
    if source.startswith("gst:"):
        require("gst-launch-1.0")
    else:
        source = str(Clip().losing(set(), tmp_path / source))
    given: list[Image] = []

    def get_buffer(shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> Image:
        given.append(np.full(shape, 7, dtype))
        return given[-1]

    images = read(get_buffer, source, **options)
    inside = [any(np.shares_memory(image, one) for one in given) for image in images]
    assert inside == [False] * apart + [True] * (4 - apart)
    for image, alone in zip(images, read(no_buffer, source, **options), strict=True):
        assert np.array_equal(image, alone)
