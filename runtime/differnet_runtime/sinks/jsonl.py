"""The file sink: events as JSON lines, in a file that is rotated by size."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import BinaryIO

from ..config import JsonLinesConfig
from ..errors import SinkError
from . import Sink, Stored, Took, unheard

_BLOCK = 1 << 16


class JsonLinesSink(Sink):
    """Appends one line per event, and syncs the file after each batch.

    The file is opened for each batch, so other programs may move or delete it in between. It never
    keeps half a line: what a power cut or a full disk left is cut off, as that event comes again.

    Args:
        config: Path, size limit, and number of rotated files (`events.jsonl.1` is the latest).

    Example:
        >>> sink = JsonLinesSink(JsonLinesConfig(path=Path("events.jsonl")))
        >>> sink.deliver([Stored(1, "6f...", '{"type": "inspection"}')])
    """

    def __init__(self, config: JsonLinesConfig) -> None:
        super().__init__("jsonl")
        self._config = config

    def deliver(self, events: Sequence[Stored], took: Took = unheard) -> None:  # noqa: ARG002 - all at once
        """Appends events; see `Sink.deliver`."""
        path = self._config.path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.is_file() and path.stat().st_size >= self._config.max_bytes:
                self._rotate()
            with path.open("ab+", buffering=0) as file:
                _append(file, b"".join(event.text.encode() + b"\n" for event in events))
        except OSError as error:
            raise SinkError(f"{path}: {error.strerror or error}") from error

    def _rotate(self) -> None:
        path, keep = self._config.path, self._config.keep
        names = [path, *(path.with_name(f"{path.name}.{number}") for number in range(1, keep + 1))]
        names[-1].unlink(missing_ok=True)
        for older, newer in zip(reversed(names), reversed(names[:-1]), strict=False):
            if newer.exists():
                newer.replace(older)


def _append(file: BinaryIO, data: bytes) -> None:
    whole = _end_of_lines(file)
    file.truncate(whole)
    rest = memoryview(data)
    try:
        while rest:
            rest = rest[file.write(rest) :]
        os.fsync(file.fileno())
    except OSError:
        file.truncate(whole)
        raise


def _end_of_lines(file: BinaryIO) -> int:
    """Returns the position after the last complete line."""
    end = file.seek(0, os.SEEK_END)
    while end > 0:
        start = max(0, end - _BLOCK)
        file.seek(start)
        found = file.read(end - start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0
