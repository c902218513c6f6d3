"""A camera's newest judged picture: encoded when somebody looks, once for all who do."""

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
"""Of the pictures sent, in pixels at most: it is a view, and evidence keeps every pixel."""

_QUALITY = 80


@dataclass(frozen=True)
class _Judged:
    number: int
    event: InspectionEvent
    frame: Frame
    inspect: Callable[[], Inspection]
    metadata: ModelMetadata | None


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
