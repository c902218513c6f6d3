"""What `differnet capture` has taken: frames that show nothing new, and how many parts."""

from __future__ import annotations

import hashlib
import sys
import time
from collections import deque
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from differnet_runtime.capture_record import CaptureRecord
from differnet_runtime.command import progress, warn
from differnet_runtime.errors import ImageReadError
from differnet_runtime.images import decode_image, list_images, read_bytes
from differnet_runtime.integrity.examination import (
    Measured,
    Weight,
    different_parts,
    examine,
    listed,
    measure,
)
from differnet_runtime.integrity.similar import same_scene
from differnet_runtime.metadata import InputContract
from differnet_runtime.preprocess import preprocess
from differnet_runtime.records import Image

_REMEMBERED = 32
"""Frames that a new one is compared with: a part stands before the camera and does not return."""
_SIDE = 256
_TOLD_EVERY_S = 10.0


class Repeats:
    """Recognises frames that show the same as one of the last that were saved, but for noise.

    Args:
        record: How the pictures are taken: its region of interest is compared.
    """

    def __init__(self, record: CaptureRecord) -> None:
        self.left_out = 0
        self._contract = _contract(record)
        self._last: deque[NDArray[np.uint8]] = deque(maxlen=_REMEMBERED)
        self._told = time.monotonic()

    def seen_before(self, image: Image) -> bool:
        """Says whether a frame `(H, W, 3)` shows nothing new; it is remembered if it does."""
        prepared = preprocess(image, self._contract)
        if not any(same_scene(prepared, one) for one in reversed(self._last)):
            self._last.append(prepared)
            return False
        self.left_out += 1
        if time.monotonic() - self._told > _TOLD_EVERY_S:
            self._told = time.monotonic()
            print(
                f"waiting for another part: {self.left_out} frames showed the same as one before",
                file=sys.stderr,
            )
        return True


def _contract(record: CaptureRecord) -> InputContract:
    """Returns how pictures are compared: small frames as they are, others at 256 x 256 pixels."""
    width, height = record.frame_size
    if record.roi is not None:
        width, height = record.roi.width, record.roi.height
    sides = {
        name: max(32, min(_SIDE, side) // 32 * 32)
        for name, side in (("height", height), ("width", width))
    }
    return InputContract(region=record.roi, fit=record.fit, **sides)


def look_at(folder: Path, record: CaptureRecord) -> str:
    """Looks at all pictures of a folder, and warns on standard error of those that seem wrong.

    Returns:
        How many different parts they show, in words.
    """
    measured = _measured(folder, _contract(record))
    found = examine(measured)
    wrong = found.of(Weight.SURE) + found.of(Weight.DOUBTFUL)
    if wrong:
        warn(
            f"{len(wrong)} of {len(measured)} pictures in {folder} seem wrong:\n"
            f"{listed(wrong)}\nLook at the camera and the light, and remove them before training."
        )
    parts = len(set(different_parts(measured)))
    return f"{len(measured)} pictures of {parts} different parts are in {folder}."


def _measured(folder: Path, contract: InputContract) -> list[Measured]:
    found = []
    for path in progress(list_images(folder), "looking at the pictures", unit="image"):
        try:
            data = read_bytes(path)
            image = decode_image(data, str(path))
        except ImageReadError as error:
            warn(str(error))
            continue
        content = hashlib.sha256(data).hexdigest()
        found.append(measure(path, content, image, preprocess(image, contract)))
    return found
