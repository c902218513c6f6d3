"""Splits what an HTTP camera sends (multipart/x-mixed-replace, RFC 2046) into its parts.

Cameras keep to the letter of it loosely: lengths that are wrong or missing, boundaries with dashes
more or less, bytes between the parts. A part ends where its length says, or where the next begins.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_MOST_BYTES = 64 << 20
_MOST_HEAD = 16 << 10
_HEAD_END = re.compile(rb"\r?\n\r?\n")
_LINE_END = re.compile(rb"(?:--)?[ \t]*\r?\n")
_BOUNDARY = re.compile(r'boundary\s*=\s*(?:"([^"]+)"|([^\s;]+))', re.IGNORECASE)


@dataclass(frozen=True)
class Part:
    """One part.

    Args:
        head: Its header's fields, names in lower case.
        body: What it holds.
        damage: What is wrong with it, or None.
    """

    head: dict[str, str]
    body: bytes
    damage: str | None = None


def boundary_of(content_type: str) -> str | None:
    """Returns the boundary that an answer's Content-Type names; None where it has no parts."""
    if not content_type.lower().lstrip().startswith("multipart/"):
        return None
    found = _BOUNDARY.search(content_type)
    return (found[1] or found[2]).strip("-") if found is not None else ""


class Parts:
    """Takes bytes as they come, and gives the parts that are complete.

    Args:
        boundary: As `boundary_of` returns it.
    """

    def __init__(self, boundary: str) -> None:
        self._mark = b"--" + boundary.encode("latin-1", "replace")
        self._data = bytearray()
        self._head: dict[str, str] | None = None
        self._searched = 0

    def feed(self, data: bytes) -> list[Part]:
        """Takes the next bytes; returns the parts that they complete."""
        self._data += data
        parts: list[Part] = []
        while True:
            part = self._next()
            if part is None:
                return parts
            parts.append(part)

    def _next(self) -> Part | None:
        while True:
            if self._head is None and not self._begin():
                return None
            assert self._head is not None
            end, damage = self._end(self._head)
            if end is None:
                return None
            head, body = self._head, bytes(self._data[:end])
            self._forget(end)
            self._head = None
            kind = head.get("content-type", "image/")
            if kind.startswith(("image/", "application/octet-stream")):
                return Part(head, body, damage)

    def _begin(self) -> bool:
        """Looks for a part's beginning and reads its header; False where more bytes are needed."""
        found = self._boundary(len(self._data), anywhere=True)
        if found is None:
            self._drop_junk()
            return False
        end = _HEAD_END.search(self._data, found[1] - 2, found[1] + _MOST_HEAD)
        if end is None:
            if len(self._data) > found[1] + _MOST_HEAD:
                self._forget(found[1])  # no header: go on behind it
                return self._begin()
            self._searched = found[0]
            return False
        lines = self._data[found[1] : end.start()].decode("latin-1").splitlines()
        fields = (line.partition(":") for line in lines)
        self._head = {name.strip().lower(): value.strip() for name, _, value in fields}
        self._forget(end.end())
        return True

    def _end(self, head: dict[str, str]) -> tuple[int | None, str | None]:
        told = head.get("content-length", "")
        length = int(told) if told.isdecimal() and len(told) < 10 else 0
        if not 0 < length <= _MOST_BYTES:
            found = self._boundary(len(self._data))
            if found is None and len(self._data) > _MOST_BYTES:
                return len(self._data), "the part has no end"
            return (found[0], None) if found is not None else (None, None)
        found = self._boundary(min(length, len(self._data)))
        if found is not None:
            return found[0], f"the part has {found[0]} bytes, {length} were promised"
        return (length, None) if len(self._data) >= length else (None, None)

    def _boundary(self, limit: int, *, anywhere: bool = False) -> tuple[int, int] | None:
        """Returns where the text before the next boundary ends, and where its own line does."""
        at = self._searched
        while (at := self._data.find(self._mark, at, limit)) >= 0:
            line = _LINE_END.match(self._data, at + len(self._mark))
            begins = at == 0 or self._data[at - 1] in b"\n-"
            if line is not None and (begins or anywhere):
                return self._without_line_end(at), line.end()
            if line is None and len(self._data) < at + len(self._mark) + 8:
                break  # the rest of its line has not come yet
            at += 1
        self._searched = max(0, (limit if at < 0 else at) - len(self._mark) - 8)
        return None

    def _without_line_end(self, at: int) -> int:
        while at and self._data[at - 1] in b"-":  # a boundary that has dashes of its own
            at -= 1
        for end in (b"\n", b"\r"):
            at -= bytes(self._data[max(0, at - 1) : at]) == end
        return at

    def _drop_junk(self) -> None:
        if len(self._data) > _MOST_BYTES:
            self._forget(len(self._data) - len(self._mark) - 8)

    def _forget(self, length: int) -> None:
        del self._data[:length]
        self._searched = 0
