"""What a frame leaves for the page: the camera's newest judged picture, and the latest verdicts.

A picture is encoded on demand, and once for all viewers.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import cv2
from pydantic import Field

from ..errors import OutputError
from ..events import InspectionEvent
from ..inspection.drawing import Picture, annotate, eight_bit_colour, jpeg
from ..model_file.contract import StrictModel
from ..model_file.metadata import ModelMetadata
from ..records import Frame, Inspection

WIDTH = 960
"""Maximum width of a picture in pixels; the evidence keeps every pixel."""

_QUALITY = 80


@dataclass(frozen=True)
class Jpeg:
    """A picture of a camera, ready to be sent.

    Args:
        number: Number of the picture, counted for each camera.
        captured_ns: Monotonic time after its frame was read.
        data: Content of a JPEG file.
        event: The verdict on this frame.
    """

    number: int
    captured_ns: int
    data: bytes
    event: InspectionEvent


@dataclass(frozen=True)
class _Judged:
    number: int
    event: InspectionEvent
    frame: Frame
    inspect: Callable[[], Inspection]
    metadata: ModelMetadata | None


class LivePicture:
    """Keeps a reference to the newest judged frame, and encodes it only on demand."""

    def __init__(self) -> None:
        self._judged: _Judged | None = None
        self._encoded: dict[bool, Jpeg] = {}
        self._encoding = threading.Lock()

    @property
    def frame(self) -> Frame | None:
        """The newest judged frame; None before the first."""
        return self._judged.frame if self._judged is not None else None

    def put(
        self,
        event: InspectionEvent,
        frame: Frame,
        inspect: Callable[[], Inspection],
        metadata: ModelMetadata | None,
    ) -> None:
        """Replaces the picture; called by one thread only.

        Args:
            event: The verdict on the frame, which is sent with the picture.
            frame: The frame, whose pixels must not change afterwards.
            inspect: Returns the inspection to draw; called on demand.
            metadata: Metadata of the model, for the heatmap's colour scale.
        """
        number = self._judged.number + 1 if self._judged is not None else 1
        self._judged = _Judged(number, event, frame, inspect, metadata)

    def jpeg(self, *, overlay: bool) -> Jpeg | None:
        """Returns the newest picture; None before the first.

        Args:
            overlay: Whether heatmap and verdict are drawn on it.

        Raises:
            OutputError: It can't be encoded.
        """
        with self._encoding:
            judged = self._judged
            if judged is None:
                return None
            known = self._encoded.get(overlay)
            if known is None or known.number != judged.number:
                data = _encode(judged, overlay)
                known = Jpeg(judged.number, judged.frame.captured_ns, data, judged.event)
                self._encoded[overlay] = known
            return known


def _encode(judged: _Judged, overlay: bool) -> bytes:
    name = judged.frame.name
    try:
        if overlay:
            picture = annotate(judged.frame.image, judged.inspect(), judged.metadata)
        else:
            picture = eight_bit_colour(judged.frame.image)
    except cv2.error as error:
        raise _cant_show(name, error) from error
    return encoded(picture, name)


def encoded(picture: Picture, name: str) -> bytes:
    """Returns a picture as a JPEG of `WIDTH` pixels at most.

    Args:
        picture: `(H, W, 3) uint8`, BGR.
        name: Name of the picture, for errors.

    Raises:
        OutputError: It can't be encoded.
    """
    try:
        return jpeg(picture, _QUALITY, WIDTH / picture.shape[1])
    except cv2.error as error:
        raise _cant_show(name, error) from error


def _cant_show(name: str, error: cv2.error) -> OutputError:
    return OutputError(f"{name} can't be shown ({error.err})")


class RecentEvent(StrictModel):
    """A verdict and its number, counted since the start."""

    number: int = Field(ge=1)
    event: InspectionEvent


class RecentEvents:
    """A ring buffer of the latest verdicts. Thread-safe.

    Args:
        size: Maximum number of verdicts.
    """

    def __init__(self, size: int = 2000) -> None:
        self._events: deque[tuple[int, InspectionEvent]] = deque(maxlen=size)
        self._number = 0
        self._lock = threading.Lock()

    @property
    def number(self) -> int:
        """Number of the latest verdict; 0 before the first."""
        return self._number

    def add(self, event: InspectionEvent) -> None:
        """Appends a verdict, in place of the oldest one if the ring is full."""
        with self._lock:
            self._number += 1
            self._events.append((self._number, event))

    def after(
        self, number: int = 0, *, camera: str | None = None, limit: int = 2000
    ) -> list[RecentEvent]:
        """Returns verdicts, oldest first.

        Args:
            number: Only verdicts with a greater number.
            camera: Only verdicts of this camera; None for all.
            limit: Maximum number; the newest are returned.
        """
        with self._lock:
            newest = self._newest(number, camera, limit)
        return [
            RecentEvent.model_construct(number=number, event=event)
            for number, event in reversed(newest)
        ]

    def _newest(
        self, after: int, camera: str | None, limit: int
    ) -> list[tuple[int, InspectionEvent]]:
        found: list[tuple[int, InspectionEvent]] = []
        for number, event in reversed(self._events):
            if number <= after or len(found) == limit:
                break
            if camera is None or event.camera == camera:
                found.append((number, event))
        return found
