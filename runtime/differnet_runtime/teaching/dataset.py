"""A data set while the station runs: decides which frames become pictures, and keeps its record.

Finds strange pictures in a data set, by the same rules as training.

Takes frames from the cameras' threads without delay, and adds them to data sets in its own.
"""

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


class Looked(NamedTuple):
    """What was found in the kept pictures.

    Args:
        parts: Number of different parts that they show.
        causes: For each strange picture, by id, what is strange about it.
    """

    parts: int
    causes: dict[str, str]


class DatasetExaminer:
    """Examines a data set's pictures, and remembers the measurements for the next time.

    Args:
        files: The data set's files.
    """

    def __init__(self, files: DatasetFiles) -> None:
        self._files = files
        self._lock = threading.Lock()
        self._measured: dict[str, Measured] = {}
        self._due = False

    def measure(self, picture: str, data: bytes, image: Image, prepared: NDArray[np.uint8]) -> None:
        """Measures a picture that was just taken."""
        found = self._measure(picture, data, image, prepared)
        with self._lock:
            self._measured[picture] = found
            self._due = True

    def changed(self) -> None:
        """Notes that another look is needed."""
        with self._lock:
            self._due = True

    @property
    def due(self) -> bool:
        """Whether something has changed since the last look."""
        return self._due

    def forget(self) -> None:
        """Frees the memory; the next look reads the pictures again."""
        with self._lock:
            self._measured.clear()

    def look(self, record: Record, within_s: float = math.inf) -> Looked | None:
        """Looks at the pictures that are kept.

        Args:
            record: The data set's record.
            within_s: Time limit for reading pictures; the next call continues with the rest.

        Returns:
            What was found; None if nothing has changed since the last look, or some are left.
        """
        until = time.monotonic() + within_s
        with self._lock:
            if not self._due:
                return None
            self._due = False
        some, read = [], False
        for one in record.kept:
            found = self._known(one.id)
            if found is None:
                if read and time.monotonic() > until:
                    self.changed()
                    return None
                found, read = self._read(one.id, record), True
            if found is not None:
                some.append(found)
        findings = examine(some).findings
        causes = {
            one.path.stem: sentence(f"look_{one.cause.replace(' ', '_')}", seen=one.detail)
            for one in reversed(findings)  # the weightiest comes first, and stays
            if one.weight is not Weight.NOTE
        }
        return Looked(len(set(different_parts(some))), causes)

    def _known(self, picture: str) -> Measured | None:
        with self._lock:
            return self._measured.get(picture)

    def _read(self, picture: str, record: Record) -> Measured | None:
        path = self._files.path(picture)
        try:
            data = read_bytes(path)
            image = decode_image(data, str(path))
        except ImageReadError:
            return None
        prepared = preprocess(image, comparing(capture_record(record)))
        found = self._measure(picture, data, image, prepared)
        with self._lock:
            self._measured[picture] = found
        return found

    def _measure(
        self, picture: str, data: bytes, image: Image, prepared: NDArray[np.uint8]
    ) -> Measured:
        content = hashlib.sha256(data).hexdigest()
        return measure(self._files.path(picture), content, image, prepared)


MOST_PICTURES = 1000
"""Pictures in one data set. More hardly make a better model, and training takes longer."""
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
    """

    def __init__(self, files: DatasetFiles, record: Record, room: Room) -> None:
        self.files, self._record, self._room = files, record, room
        self.lock = threading.RLock()
        self.bytes = files.bytes()
        self.looks = DatasetExaminer(files)
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

    def consider(self, frame: Frame, gate: IntegrityGate) -> FrameOutcome:
        """Takes a frame if it can be trusted and shows another part than those before.

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
        record = self._record
        size = size_of(frame.image)
        if (misfit := _misfit(record, size)) is not None:
            return FrameOutcome(False, misfit, over=True)
        if record.frame_size is None:
            record = record.model_copy(update={"frame_size": size})
        repeats = self._repeats_of(record)
        image = _colour(frame.image)
        prepared = repeats.prepared(image)
        refused = gate.check(frame, prepared, time.monotonic_ns())
        if refused is not None:
            return FrameOutcome(False, refused.reason)
        if repeats.knows(prepared):
            self._record = record.model_copy(update={"repeats": record.repeats + 1})
            self._unwritten = True
            return FrameOutcome(False, REPEAT)
        if len(record.pictures) >= MOST_PICTURES:
            return FrameOutcome(
                False, sentence("teach_most_pictures", most=MOST_PICTURES), over=True
            )
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
        self.looks.measure(picture.id, data, image, prepared)
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
            within_s: See `DatasetExaminer.look`.

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
        self.dataset, self.live = dataset, live
        self.gate = IntegrityGate(integrity, None, live=live)
        self.waiting: deque[Frame] = deque(maxlen=1 if live else _WAITING)
        self.served = 0


class Collector:
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
        self._look, self._ended, self._leave = look, ended, leave
        self._streams: dict[str, Stream] = {}
        self._some = threading.Condition()
        self._stopping, self._told = False, ""
        self._thread = threading.Thread(target=self._run, name="teach", daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """Ends the thread; the frame at hand is still added if the disk is fast enough."""
        with self._some:
            self._stopping = True
            self._some.notify_all()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def use(self, streams: dict[str, Stream]) -> None:
        """Replaces the streams, by camera; frames that wait for the same data set still do."""
        with self._some:
            for camera, stream in streams.items():
                before = self._streams.get(camera)
                if before is not None and before.dataset is stream.dataset:
                    stream.waiting.extend(before.waiting)
            self._streams = streams
            self._some.notify_all()

    def offer(self, camera: str, frame: Frame) -> None:
        """Takes a frame, whose pixels must not change afterwards; called by the camera's thread.

        Returns at once for a live camera, of which only the newest frame waits.
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
        """Whether a picture of a folder would push out one that waits."""
        stream = self._streams.get(camera)
        return stream is not None and not stream.live and len(stream.waiting) == _WAITING

    def _run(self) -> None:
        looked_s = time.monotonic()
        while not self._stopping:
            try:
                found = self._next()
                if found is not None:
                    self._consider(*found)
                if found is None or time.monotonic() - looked_s > _IDLE_S:
                    self._look()
                    looked_s, self._told = time.monotonic(), ""
            except Exception as error:  # noqa: PERF203 - one picture must not end the others
                self._tell(error)
        self._leave()

    def _tell(self, error: Exception) -> None:
        """Logs each kind of error once, and waits a moment."""
        expected = isinstance(error, DifferNetError)
        if str(error) != self._told:
            log.warning("teaching: %s", error, exc_info=None if expected else error)
        self._told = str(error)
        time.sleep(_IDLE_S)

    def _next(self) -> tuple[Stream, Frame] | None:
        """Waits for a frame; returns None if none comes for a while."""
        with self._some:
            self._some.wait_for(self._busy, _IDLE_S)
            waiting = [one for one in self._streams.values() if one.waiting]
            if not waiting:
                return None
            stream = min(waiting, key=lambda one: one.served)
            stream.served = time.monotonic_ns()
            self._some.notify_all()
            return stream, stream.waiting.popleft()

    def _busy(self) -> bool:
        return self._stopping or any(one.waiting for one in self._streams.values())

    def _consider(self, stream: Stream, frame: Frame) -> None:
        seen = stream.dataset.consider(frame, stream.gate)
        if seen.over:
            self._ended(stream.dataset, seen.why or "")
