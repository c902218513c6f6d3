"""What is noted of pictures after they were kept: labels, and further frames of the same part."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable

from ..errors import StoreError
from .index import Index

log = logging.getLogger(__name__)


class Notes:
    """Collects notes from any thread for the one that writes the index.

    Args:
        labelled: Returns the ids of all labelled pictures, for an index that is opened.
        wake: Called after each note.
    """

    def __init__(self, labelled: Callable[[], Iterable[str]], wake: Callable[[], None]) -> None:
        self._labelled, self._wake = labelled, wake
        self._lock = threading.Lock()
        self._frames: dict[str, int] = {}
        self._marks: dict[str, bool] = {}

    def count(self, id_: str, frames: int) -> None:
        """Notes how many frames of its part a picture stands for."""
        with self._lock:
            self._frames[id_] = frames
        self._wake()

    def mark(self, id_: str, *, labelled: bool) -> None:
        """Notes that a picture was labelled, or is no longer."""
        with self._lock:
            self._marks[id_] = labelled
        self._wake()

    def write(self, index: Index) -> None:
        """Writes down what was noted since.

        Raises:
            StoreError: The index can't be changed; the notes are kept for the next time.
        """
        with self._lock:
            frames, marks = self._frames, self._marks
            self._frames, self._marks = {}, {}
        try:
            if frames:
                index.set_frames(frames)
            if marks:
                index.set_labelled(marks)
        except BaseException:
            with self._lock:
                self._frames = {**frames, **self._frames}
                self._marks = {**marks, **self._marks}
            raise

    def write_all(self, index: Index) -> None:
        """Marks every labelled picture of an index that was just opened."""
        try:
            labelled = self._labelled()
        except StoreError as error:  # pictures are kept all the same
            log.warning("labelled pictures are not kept longer than others: %s", error)
            return
        index.set_labelled(dict.fromkeys(labelled, True))
