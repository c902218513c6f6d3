"""Data sets while the station runs: a thread collects frames, and each decides which it takes."""

from __future__ import annotations

import hashlib
import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from ..config import IntegrityConfig
from ..errors import DifferNetError, ImageReadError, OutputError
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
"""Takes a number of bytes; returns why they can't be stored, or None if they can."""


class FrameOutcome(NamedTuple):
    """The outcome of a frame that was offered to a data set.

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
        """Takes a frame if it is intact and shows a different part than the frames before.

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


_WAITING = 8
"""Pictures of a folder that can wait; of a live camera only the newest frame waits."""
_ROOM_S = 0.2
"""How long a picture of a folder waits for a place in the queue, since it comes only once."""
_IDLE_S = 0.5

log = logging.getLogger(__name__)


class Stream:
    """The queue of frames from one camera to one data set.

    Args:
        dataset: The data set.
        integrity: The camera's integrity settings.
        live: Whether it is a live camera, not a folder or a video.
    """

    def __init__(self, dataset: Dataset, integrity: IntegrityConfig, *, live: bool) -> None:
        self.dataset = dataset
        self.gate = IntegrityGate(integrity, None, live=live)
        self.waiting: deque[Frame] = deque(maxlen=1 if live else _WAITING)
        self.served, self.live = 0, live


class Collector(threading.Thread):
    """A thread that adds waiting frames to data sets.

    Args:
        look: Called repeatedly while no frame waits.
        ended: Called with a data set that can take no more frames, and the reason.
        leave: Called when the thread ends.
    """

    def __init__(
        self,
        look: Callable[[], None],
        ended: Callable[[Dataset, str], None],
        leave: Callable[[], None],
    ) -> None:
        super().__init__(name="teach", daemon=True)
        self._look, self._ended, self._leave = look, ended, leave
        self._streams: dict[str, Stream] = {}
        self._some = threading.Condition()
        self._stopping, self._logged = False, ""

    def stop(self, timeout_s: float) -> None:
        """Ends the thread; the frame at hand is still added if the disk is fast enough."""
        with self._some:
            self._stopping = True
            self._some.notify_all()
        if self.is_alive():
            self.join(timeout_s)

    def use(self, streams: dict[str, Stream]) -> None:
        """Replaces the streams (by camera); frames that wait for the same data set are kept."""
        with self._some:
            for camera, stream in streams.items():
                before = self._streams.get(camera)
                if before is not None and before.dataset is stream.dataset:
                    stream.waiting.extend(before.waiting)
            self._streams = streams
            self._some.notify_all()

    def offer(self, camera: str, frame: Frame) -> None:
        """Takes a frame, whose pixels must not change afterwards; called by the camera's thread.

        Never waits for a live camera, of which only the newest frame is kept; a picture of a folder
        waits a moment for a place in the queue.
        """
        if camera not in self._streams:
            return
        with self._some:
            self._some.wait_for(lambda: not self._full(camera), _ROOM_S)
            stream = self._streams.get(camera)  # after the wait: it may have been replaced
            if stream is not None:
                stream.waiting.append(frame)
                self._some.notify_all()

    def _full(self, camera: str) -> bool:
        """Returns whether another picture of a folder would push out one that waits."""
        stream = self._streams.get(camera)
        return stream is not None and not stream.live and len(stream.waiting) == _WAITING

    def run(self) -> None:
        """Adds frames until `stop`; called in the thread."""
        looked_s = time.monotonic()
        while not self._stopping:
            try:
                took = self._take_next()
                if not took or time.monotonic() - looked_s > _IDLE_S:
                    self._look()
                    looked_s, self._logged = time.monotonic(), ""
            except Exception as error:  # noqa: PERF203 - one picture must not end the others
                self._log_once(error)
        self._leave()

    def _log_once(self, error: Exception) -> None:
        """Logs an error unless it was the last one, too; waits a moment."""
        if str(error) != self._logged:
            expected = isinstance(error, DifferNetError)
            log.warning("teaching: %s", error, exc_info=None if expected else error)
        self._logged = str(error)
        time.sleep(_IDLE_S)

    def _take_next(self) -> bool:
        """Waits for a frame and gives it to its data set; False if none comes for a while."""
        with self._some:
            self._some.wait_for(lambda: self._stopping or self._waiting(), _IDLE_S)
            waiting = self._waiting()
            if not waiting:
                return False
            stream = min(waiting, key=lambda one: one.served)
            stream.served = time.monotonic_ns()
            frame = stream.waiting.popleft()
            self._some.notify_all()
        outcome = stream.dataset.consider(frame, stream.gate)
        if outcome.over:
            self._ended(stream.dataset, outcome.why or "")
        return True

    def _waiting(self) -> list[Stream]:
        return [one for one in self._streams.values() if one.waiting]
