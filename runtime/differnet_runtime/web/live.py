"""What the page shows live: the latest verdicts, and each camera's newest judged picture."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import cv2

from ..errors import OutputError
from ..events import InspectionEvent
from ..inspection.drawing import Picture, annotate, eight_bit_colour, jpeg
from ..model_file.metadata import ModelMetadata
from ..records import Frame, Inspection
from .views import RecentEvent

WIDTH = 960
"""Of the pictures sent, in pixels at most: it is a view, and evidence keeps every pixel."""

_QUALITY = 80


@dataclass(frozen=True)
class Jpeg:
    """A picture of a camera, ready to be sent.

    Args:
        number: Rises with every new picture of the camera.
        captured_ns: `time.monotonic_ns()` after its frame was read.
        data: The file.
        event: The verdict on this very frame.
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


class RecentEvents:
    """A ring of the latest verdicts; safe to use from several threads.

    Args:
        size: So many are kept.
    """

    def __init__(self, size: int = 2000) -> None:
        self._events: deque[tuple[int, InspectionEvent]] = deque(maxlen=size)
        self._number = 0
        self._lock = threading.Lock()

    @property
    def number(self) -> int:
        """Of the latest; 0 before the first."""
        return self._number

    def add(self, event: InspectionEvent) -> None:
        """Appends a verdict; the oldest goes when the ring is full."""
        with self._lock:
            self._number += 1
            self._events.append((self._number, event))

    def after(
        self, number: int = 0, *, camera: str | None = None, limit: int = 2000
    ) -> list[RecentEvent]:
        """Returns verdicts, the oldest first.

        Args:
            number: Only later ones.
            camera: Only of this one.
            limit: At most so many, the newest.
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


class LivePicture:
    """Keeps a reference to the newest judged frame; nothing is copied or encoded unasked."""

    def __init__(self) -> None:
        self._judged: _Judged | None = None
        self._encoded: dict[bool, Jpeg] = {}
        self._encoding = threading.Lock()

    @property
    def frame(self) -> Frame | None:
        """The frame that it shows; None before the first."""
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
            event: The verdict on the frame; whoever gets the picture gets it too.
            frame: Whose pixels nobody writes to afterwards.
            inspect: Says what is known of it, to whoever looks.
            metadata: The model's, for the scale of the heatmap.
        """
        number = self._judged.number + 1 if self._judged is not None else 1
        self._judged = _Judged(number, event, frame, inspect, metadata)

    def jpeg(self, *, overlay: bool) -> Jpeg | None:
        """Returns the newest picture; None before the first.

        Args:
            overlay: With heatmap and verdict drawn on it.

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
        name: Its name, for the message.

    Raises:
        OutputError: It can't be encoded.
    """
    try:
        return jpeg(picture, _QUALITY, WIDTH / picture.shape[1])
    except cv2.error as error:
        raise _cant_show(name, error) from error


def _cant_show(name: str, error: cv2.error) -> OutputError:
    return OutputError(f"{name} can't be shown ({error.err})")
