"""A data set while the station runs: decides which frames become pictures, and keeps its record."""

from __future__ import annotations

import hashlib
import math
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from ..errors import ImageReadError, OutputError
from ..images import decode_image, read_bytes, read_image
from ..inspection.examination import Measured, Weight, different_parts, examine, measure
from ..inspection.image_checks import IntegrityGate
from ..inspection.preprocess import preprocess
from ..inspection.similar import REMEMBERED, Repeats, comparing
from ..model_file.contract import Region
from ..records import Frame, Image
from ..sentences import sentence
from .files import DatasetFiles, capture_record, encoded
from .records import CollectedPicture, Record, now

MOST_PICTURES = 1000
"""Pictures in one data set. More hardly improve the model, and training takes longer."""
REPEAT = sentence("teach_repeat")
Room = Callable[[int], str | None]
"""Returns why so many more bytes can't be stored; None if they can."""


class FrameOutcome(NamedTuple):
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

    Example:
        >>> dataset = Dataset(files, record, room=lambda need: None)
        >>> dataset.consider(frame, IntegrityGate(IntegrityConfig(), None, live=True))
        FrameOutcome(taken=True, why=None, over=False)
    """

    def __init__(self, files: DatasetFiles, record: Record, room: Room) -> None:
        self.files, self.record, self._room = files, record, room
        self.lock = threading.RLock()
        self.bytes = files.bytes()
        self.due = False
        """Whether pictures were added or thrown out since the last `look`."""
        self.gone = False
        """Whether it was deleted; nothing is written any more."""
        self._unwritten = False
        self._repeats: Repeats | None = None
        self._measured: dict[str, Measured] = {}

    def change(self, **values: Any) -> None:  # noqa: ANN401 - of any field of the record
        """Changes fields of the record, on disk and in memory, or neither.

        Raises:
            OutputError: The record can't be written, or the data set was deleted.
        """
        with self.lock:
            if self.gone:
                raise OutputError(sentence("teach_deleted", name=self.record.name))
            changed = Record.model_validate({**dict(self.record), **values})
            self.files.write(changed)
            self.record, self._unwritten = changed, False

    def remember(self, **values: Any) -> None:  # noqa: ANN401 - of any field of the record
        """Changes fields of the record in memory, and on disk as soon as it can be written.

        Raises:
            OutputError: It can't be written now.
        """
        with self.lock:
            self.record = Record.model_validate({**dict(self.record), **values})
            self._unwritten = True
            self.flush()

    def flush(self) -> None:
        """Writes the count of repeats, and changes that an error kept back.

        Raises:
            OutputError: The record can't be written now.
        """
        with self.lock:
            if self._unwritten:
                self.change()

    def consider(self, frame: Frame, gate: IntegrityGate) -> FrameOutcome:
        """Takes a frame if it is intact and shows another part than those before.

        Args:
            frame: A frame of the camera.
            gate: The camera's integrity gate.
        """
        with self.lock:
            try:
                return self._considered(frame, gate)
            except OutputError as error:
                return FrameOutcome(False, str(error), over=True)

    def _considered(self, frame: Frame, gate: IntegrityGate) -> FrameOutcome:
        size = size_of(frame.image)
        if (misfit := _misfit(self.record, size)) is not None:
            return FrameOutcome(False, misfit, over=True)
        record = self.record.model_copy(update={"frame_size": size})
        repeats = self._repeats_of(record)
        image = _colour(frame.image)
        prepared = repeats.prepared(image)
        refused = gate.check(frame, prepared, time.monotonic_ns())
        if refused is not None:
            return FrameOutcome(False, refused.reason)
        if repeats.knows(prepared):
            self.record = record.model_copy(update={"repeats": record.repeats + 1})
            self._unwritten = True
            return FrameOutcome(False, REPEAT)
        if len(record.pictures) >= MOST_PICTURES:
            full = sentence("teach_most_pictures", most=MOST_PICTURES)
            return FrameOutcome(False, full, over=True)
        return self._take(record, image, prepared)

    def _take(self, record: Record, image: Image, prepared: NDArray[np.uint8]) -> FrameOutcome:
        data, picture = encoded(image), CollectedPicture(id=f"{record.next:06d}", time=now())
        if (full := self._room(len(data))) is not None:
            return FrameOutcome(False, full, over=True)
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
        self._measure(picture.id, data, image, prepared)
        self.due = True
        return FrameOutcome(True)

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
            found = {one.id: one for one in self.record.pictures}
            if picture not in found:
                return False
            if found[picture].kept != kept:
                found[picture] = found[picture].model_copy(update={"kept": kept})
                parts = max(0, self.record.parts + (1 if kept else -1))
                self.change(pictures=tuple(found.values()), parts=parts)
                self.due = True
            return True

    def look(self, within_s: float = math.inf) -> None:
        """Looks for strange pictures by the same rules as training, if a look is due.

        Args:
            within_s: Time limit for reading pictures; the next call continues with the rest.

        Raises:
            OutputError: The record can't be written.
        """
        if not self.due:
            return
        self.due = False  # before the record is read: a change after that is due again
        until, record, measured, read = time.monotonic() + within_s, self.record, [], False
        for one in record.kept:
            found = self._measured.get(one.id)
            if found is None:
                if read and time.monotonic() > until:
                    self.due = True
                    return
                found, read = self._read(one.id, record), True
            if found is not None:
                measured.append(found)
        self._record_look(measured)

    def _record_look(self, measured: list[Measured]) -> None:
        causes = {
            one.path.stem: sentence(f"look_{one.cause.replace(' ', '_')}", seen=one.detail)
            for one in reversed(
                examine(measured).findings
            )  # the first is the weightiest, and stays
            if one.weight is not Weight.NOTE
        }
        parts = len(set(different_parts(measured)))
        with self.lock:
            pictures = tuple(
                one.model_copy(update={"looks": causes.get(one.id)}) for one in self.record.pictures
            )
            if pictures != self.record.pictures or parts != self.record.parts:
                self.change(pictures=pictures, parts=parts)

    def forget(self) -> None:
        """Frees the memory of earlier looks; the next one reads the pictures again."""
        self._measured.clear()

    def _read(self, picture: str, record: Record) -> Measured | None:
        path = self.files.path(picture)
        try:
            data = read_bytes(path)
            image = decode_image(data, str(path))
        except ImageReadError:
            return None
        return self._measure(
            picture, data, image, preprocess(image, comparing(capture_record(record)))
        )

    def _measure(
        self, picture: str, data: bytes, image: Image, prepared: NDArray[np.uint8]
    ) -> Measured:
        content = hashlib.sha256(data).hexdigest()
        found = measure(self.files.path(picture), content, image, prepared)
        self._measured[picture] = found
        return found


def _misfit(record: Record, size: tuple[int, int]) -> str | None:
    """Returns why frames of a size can't be taken; None if they can."""
    if record.frame_size not in (None, size):
        there = " x ".join(map(str, record.frame_size or ()))
        return sentence("teach_size_changed", size=f"{size[0]} x {size[1]}", before=there)
    return outside(record.region, size)


def outside(region: Region | None, size: tuple[int, int]) -> str | None:
    """Returns a message if a region is not inside the frame; None if it is.

    Args:
        region: The region; None for the whole frame.
        size: Width and height of the frame.
    """
    if region is None or (
        region.x + region.width <= size[0] and region.y + region.height <= size[1]
    ):
        return None
    return sentence("teach_region_outside", region=region, size=f"{size[0]} x {size[1]}")


def size_of(image: Image) -> tuple[int, int]:
    """Returns the width and the height of a picture."""
    return image.shape[1], image.shape[0]


def _colour(image: Image) -> Image:
    """Returns a frame with three channels, as it will be read from its file."""
    return image if image.ndim == 3 else cast("Image", np.repeat(image[:, :, None], 3, axis=2))
