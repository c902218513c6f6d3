"""A data set while the station runs: decides which frames become pictures, and keeps its record."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from ..errors import ImageReadError, OutputError
from ..images import read_image
from ..integrity import IntegrityGate
from ..integrity.repeats import REMEMBERED, Repeats
from ..metadata import Region
from ..records import Frame, Image
from ..sentences import sentence
from .files import DatasetFiles, capture_record, encoded
from .looking import Looked, Looks
from .records import Picture, Record, now

MOST_PICTURES = 1000
"""Pictures in one data set. More hardly make a better model, and training takes longer."""
REPEAT = sentence("teach_repeat")
Room = Callable[[int], str | None]
"""Returns why so many more bytes can't be stored; None if they can."""


class Seen(NamedTuple):
    """What became of a frame.

    Args:
        taken: Whether it is on disk and in the record.
        why: Why it was not taken; None if it was.
        over: Whether later frames can't be taken either.
    """

    taken: bool
    why: str | None = None
    over: bool = False


class Dataset:
    """Takes frames, and records what people and trainings say about them. Thread-safe.

    Args:
        files: The data set's files.
        record: The record, as it was read.
        room: Checks the free space; see `Room`.
    """

    def __init__(self, files: DatasetFiles, record: Record, room: Room) -> None:
        self.files, self._record, self._room = files, record, room
        self.lock = threading.RLock()
        self.bytes = files.bytes()
        self.looks = Looks(files)
        self._repeats: Repeats | None = None
        self._unwritten = False
        self.gone = False
        """Whether it was deleted; nothing is written any more."""

    @property
    def record(self) -> Record:
        """The current record."""
        return self._record

    def change(self, **values: Any) -> Record:  # noqa: ANN401 - of any field of the record
        """Changes fields of the record, on disk and in memory, or neither.

        Raises:
            OutputError: The record can't be written, or the data set was deleted.
        """
        with self.lock:
            if self.gone:
                raise OutputError(sentence("teach_deleted", name=self._record.name))
            changed = Record.model_validate({**dict(self._record), **values})
            self.files.write(changed)
            self._record, self._unwritten = changed, False
            return changed

    def remember(self, **values: Any) -> None:  # noqa: ANN401 - of any field of the record
        """Changes the record here, and on disk as soon as it can be written.

        Raises:
            OutputError: It can't be now.
        """
        with self.lock:
            self._record = Record.model_validate({**dict(self._record), **values})
            self._unwritten = True
            self.change()

    def flush(self) -> None:
        """Writes what is unwritten: the count of repeats, and changes that an error kept back."""
        with self.lock:
            if self._unwritten:
                self.change()

    def consider(self, frame: Frame, gate: IntegrityGate) -> Seen:
        """Takes a frame if it can be trusted and shows another part than those before.

        Args:
            frame: A frame of the camera.
            gate: The camera's integrity gate.
        """
        with self.lock:
            try:
                return self._considered(frame, gate)
            except OutputError as error:
                return Seen(False, str(error), over=True)

    def _considered(self, frame: Frame, gate: IntegrityGate) -> Seen:
        record = self._record
        size = size_of(frame.image)
        if (misfit := _misfit(record, size)) is not None:
            return Seen(False, misfit, over=True)
        if record.frame_size is None:
            record = record.model_copy(update={"frame_size": size})
        repeats = self._repeats_of(record)
        image = _colour(frame.image)
        prepared = repeats.prepared(image)
        refused = gate.check(frame, prepared, time.monotonic_ns())
        if refused is not None:
            return Seen(False, refused.reason)
        if repeats.knows(prepared):
            self._record = record.model_copy(update={"repeats": record.repeats + 1})
            self._unwritten = True
            return Seen(False, REPEAT)
        if len(record.pictures) >= MOST_PICTURES:
            return Seen(False, sentence("teach_most_pictures", most=MOST_PICTURES), over=True)
        return self._take(record, image, prepared)

    def _take(self, record: Record, image: Image, prepared: NDArray[np.uint8]) -> Seen:
        data, picture = encoded(image), Picture(id=f"{record.next:06d}", time=now())
        if (full := self._room(len(data))) is not None:
            return Seen(False, full, over=True)
        try:
            self.files.write_picture(picture.id, data)
            self.change(
                frame_size=record.frame_size,
                pictures=(*record.pictures, picture),
                parts=record.parts + 1,
                next=record.next + 1,
            )
        except OutputError:
            self.files.path(picture.id).unlink(missing_ok=True)
            raise
        self.bytes += len(data)
        self._repeats_of(record).remember(prepared)
        self.looks.measure(picture.id, data, image, prepared)
        return Seen(True)

    def _repeats_of(self, record: Record) -> Repeats:
        """Returns the frames to compare with; after a start, the last pictures are read again."""
        if self._repeats is None:
            self._repeats = Repeats(capture_record(record))
            for one in record.pictures[-REMEMBERED:]:
                try:
                    image = read_image(self.files.path(one.id))
                except ImageReadError:
                    continue
                self._repeats.remember(self._repeats.prepared(image))
        return self._repeats

    def keep(self, picture: str, *, kept: bool) -> bool:
        """Throws a picture out, or puts it back; returns False if there is no such picture.

        Raises:
            OutputError: The record can't be written.
        """
        with self.lock:
            found = {one.id: one for one in self._record.pictures}
            if picture not in found:
                return False
            if found[picture].kept != kept:
                found[picture] = found[picture].model_copy(update={"kept": kept})
                parts = max(0, self._record.parts + (1 if kept else -1))
                self.change(pictures=tuple(found.values()), parts=parts)
                self.looks.changed()
            return True

    def look(self, within_s: float = math.inf) -> None:
        """Examines the pictures if any were added or thrown out, and records what was found.

        Args:
            within_s: See `Looks.look`.

        Raises:
            OutputError: The record can't be written.
        """
        found = self.looks.look(self._record, within_s)
        if found is not None:
            self._said(found)

    def _said(self, found: Looked) -> None:
        with self.lock:
            pictures = tuple(
                one.model_copy(update={"looks": found.causes.get(one.id)})
                for one in self._record.pictures
            )
            if pictures != self._record.pictures or found.parts != self._record.parts:
                self.change(pictures=pictures, parts=found.parts)


def _misfit(record: Record, size: tuple[int, int]) -> str | None:
    """Returns why frames of a size can't be taken; None if they can."""
    if record.frame_size not in (None, size):
        there = " x ".join(map(str, record.frame_size or ()))
        return sentence("teach_size_changed", size=f"{size[0]} x {size[1]}", before=there)
    return outside(record.region, size)


def outside(region: Region | None, size: tuple[int, int]) -> str | None:
    """Returns a message if a region is not inside the frame; None if it is."""
    if region is None:
        return None
    if region.x + region.width <= size[0] and region.y + region.height <= size[1]:
        return None
    return sentence("teach_region_outside", region=region, size=f"{size[0]} x {size[1]}")


def size_of(image: Image) -> tuple[int, int]:
    """Returns the width and the height of a picture."""
    height, width = image.shape[:2]
    return width, height


def _colour(image: Image) -> Image:
    """Returns a frame with three channels, as it will be read from its file."""
    if image.ndim == 3:
        return image
    return cast("Image", np.repeat(image[:, :, None], 3, axis=2))
