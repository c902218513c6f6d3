"""Finds strange pictures in a data set, by the same rules as training."""

from __future__ import annotations

import hashlib
import math
import threading
import time
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import ImageReadError
from ..images import decode_image, read_bytes
from ..integrity.examination import Measured, Weight, different_parts, examine, measure
from ..integrity.repeats import comparing
from ..preprocess import preprocess
from ..records import Image
from ..sentences import sentence
from .files import DatasetFiles, capture_record
from .records import Record


class Looked(NamedTuple):
    """What was found in the kept pictures.

    Args:
        parts: Number of different parts that they show.
        causes: For each strange picture, by id, what is strange about it.
    """

    parts: int
    causes: dict[str, str]


class Looks:
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
