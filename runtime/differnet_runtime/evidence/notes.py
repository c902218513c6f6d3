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
        self._labelled_here: set[str] = set()

    def count(self, id_: str, frames: int) -> None:
        """Notes how many frames of its part a picture stands for."""
        with self._lock:
            self._frames[id_] = frames
        self._wake()

    def mark(self, id_: str, *, labelled: bool) -> None:
        """Notes that a picture was labelled, or is no longer."""
        with self._lock:
            self._marks[id_] = labelled
            if labelled:
                self._labelled_here.add(id_)
            else:
                self._labelled_here.discard(id_)
        self._wake()

    def labelled_here(self, id_: str) -> bool:
        """Returns whether a picture was labelled since the start; asks no disk."""
        with self._lock:
            return id_ in self._labelled_here

    def write_labels(self, index: Index) -> None:
        """Writes down which pictures were labelled since.

        Raises:
            StoreError: The index can't be changed; the notes are kept for the next time.
        """
        with self._lock:
            marks = dict(self._marks)
        if marks:
            index.set_labelled(marks)
        with self._lock:
            self._marks = {id_: one for id_, one in self._marks.items() if marks.get(id_) != one}

    def write_frames(self, index: Index) -> None:
        """Writes down the frames that were counted since, of pictures that have their rows.

        Raises:
            StoreError: The index can't be changed; the notes are kept for the next time.
        """
        with self._lock:
            frames = dict(self._frames)
        if frames:
            index.set_frames(frames)
        with self._lock:
            self._frames = {
                id_: count for id_, count in self._frames.items() if frames.get(id_) != count
            }

    def write_all(self, index: Index) -> None:
        """Marks every labelled picture of an index that was just opened."""
        try:
            labelled = self._labelled()
        except StoreError as error:  # pictures are kept all the same
            log.warning("labelled pictures are not kept longer than others: %s", error)
            return
        index.set_labelled(dict.fromkeys(labelled, True))
