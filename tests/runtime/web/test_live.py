"""A picture is encoded once for all who look, and only when somebody does."""

from __future__ import annotations

import threading
import time

import cv2
import numpy as np
import pytest

from differnet_runtime.events import InspectionEvent
from differnet_runtime.records import Decision, Frame, Inspection, Verdict
from differnet_runtime.web.live import WIDTH, LivePicture

EVENT = InspectionEvent(station="line", camera="top", verdict="GOOD", reject=False)


def put(live: LivePicture, image: np.ndarray) -> None:
    frame = Frame(image, "f", 0, time.monotonic_ns(), time.time())
    inspection = Inspection("f", 0, frame.captured_at_s, Decision(Verdict.GOOD))
    live.put(EVENT, frame, lambda: inspection, None)


@pytest.mark.parametrize("shape", [(48, 64, 3), (48, 64), (2000, 3000, 3), (1, 5000, 3), (3000, 8)])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
@pytest.mark.parametrize("overlay", [False, True])
def test_every_picture_can_be_shown(shape: tuple[int, ...], kind: type, overlay: bool) -> None:
    live = LivePicture()
    put(live, np.full(shape, 200, kind))
    jpeg = live.jpeg(overlay=overlay)
    assert jpeg is not None
    shown = cv2.imdecode(np.frombuffer(jpeg.data, np.uint8), cv2.IMREAD_COLOR)
    assert shown.shape[1] <= WIDTH
    assert not overlay or shown.shape[1] >= 320


def test_the_same_picture_is_encoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    encode = cv2.imencode

    def counted(*args: object) -> object:
        calls.append(args)
        return encode(*args)

    monkeypatch.setattr(cv2, "imencode", counted)
    live = LivePicture()
    assert live.jpeg(overlay=False) is None
    for _ in range(3):
        put(live, np.zeros((32, 32, 3), np.uint8))
    assert calls == []
    viewers = [threading.Thread(target=live.jpeg, kwargs={"overlay": False}) for _ in range(8)]
    for viewer in viewers:
        viewer.start()
    for viewer in viewers:
        viewer.join()
    assert len(calls) == 1
    jpeg = live.jpeg(overlay=False)
    assert jpeg is not None
    assert (jpeg.number, jpeg.event) == (3, EVENT)
