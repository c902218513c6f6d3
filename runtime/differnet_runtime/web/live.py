"""A camera's newest judged picture, encoded on demand, and once for all viewers."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

import cv2

from ..errors import OutputError
from ..events import InspectionEvent
from ..inspection.drawing import Picture, annotate, eight_bit_colour, jpeg
from ..model_file.metadata import ModelMetadata
from ..records import Frame, Inspection
from .control import Jpeg

WIDTH = 960
"""Maximum width of a picture in pixels; the evidence keeps every pixel."""

_QUALITY = 80


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
