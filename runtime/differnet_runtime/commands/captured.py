"""What `differnet capture` has taken: frames that show nothing new, and how many parts."""

from __future__ import annotations

import hashlib
import sys
import time
from pathlib import Path

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
from differnet_runtime.integrity.repeats import Repeats, comparing
from differnet_runtime.metadata import InputContract
from differnet_runtime.preprocess import preprocess
from differnet_runtime.records import Image

_TOLD_EVERY_S = 10.0


class AnnouncedRepeats(Repeats):
    """Recognises repeated frames, and says every ten seconds that it waits for a different part.

    Args:
        record: The capture's record.
    """

    def __init__(self, record: CaptureRecord) -> None:
        super().__init__(record)
        self._told = time.monotonic()

    def seen_before(self, image: Image) -> bool:
        """Says whether a frame `(H, W, 3)` shows nothing new; it is remembered if it does."""
        seen = super().seen_before(image)
        if seen and time.monotonic() - self._told > _TOLD_EVERY_S:
            self._told = time.monotonic()
            print(
                f"waiting for another part: {self.left_out} frames showed the same as one before",
                file=sys.stderr,
            )
        return seen


def look_at(folder: Path, record: CaptureRecord) -> str:
    """Looks at all pictures of a folder, and warns on standard error of those that seem wrong.

    Returns:
        How many different parts they show, in words.
    """
    measured = _measured(folder, comparing(record))
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
