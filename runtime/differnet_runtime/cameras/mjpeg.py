"""Cameras that send JPEG after JPEG over HTTP: each decoded strictly, and stamped when it came.

The answer is multipart/x-mixed-replace (RFC 2046), which cameras follow loosely: lengths that are
wrong or missing, boundaries with dashes more or less, bytes between the parts. A part ends where
its length says, or where the next one begins.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import socket
import ssl
import threading
import time
import urllib.error
import urllib.request
from collections import deque
from dataclasses import dataclass
from http.client import HTTPMessage
from typing import IO, Any
from urllib.parse import unquote, urlsplit, urlunsplit

from ..config.grammar import redact
from ..config.models import CameraTls
from ..errors import CameraError
from ..sentences import sentence
from .base import Decoded, StreamReader, decode_partial_jpeg

_MOST_BYTES = 64 << 20
_MOST_HEAD = 16 << 10
_HEAD_END = re.compile(rb"\r?\n\r?\n")
_LINE_END = re.compile(rb"(?:--)?[ \t]*\r?\n")
_BOUNDARY = re.compile(r'boundary\s*=\s*(?:"([^"]+)"|([^\s;]+))', re.IGNORECASE)
_CHUNK = 1 << 18
_WAITING = 4
"""Parts that may wait to be decoded; more would be old when they are."""


def open_mjpeg(url: str, tls: CameraTls, timeouts_s: tuple[float, float]) -> StreamReader | None:
    """Opens a URL; returns None where its answer is not a series of JPEGs.

    Args:
        url: The URL, with user and password where the camera asks for them.
        tls: How the camera's certificate is checked.
        timeouts_s: Longest wait for the answer, and for each part, in seconds.

    Raises:
        CameraError: The URL can't be opened.
    """
    plain, opener = _opener(url, tls)
    try:
        answer = opener.open(plain, timeout=max(timeouts_s))
    except urllib.error.HTTPError as error:
        error.close()
        raise CameraError(f"HTTP {error.code} {error.reason}") from error
    except http.client.HTTPException:
        return None  # no HTTP that Python knows; FFmpeg may
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise CameraError(redact(str(reason))) from error
    boundary = boundary_of(answer.headers.get("Content-Type", ""))
    if not boundary:
        answer.close()
        return None
    return MjpegReader(answer, boundary, redact(url), timeouts_s[1])


def _opener(url: str, tls: CameraTls) -> tuple[str, urllib.request.OpenerDirector]:
    """Returns the URL without user and password, and the opener that sends them.

    Raises:
        CameraError: `tls.ca` can't be read.
    """
    try:
        context = ssl.create_default_context(cafile=tls.ca)
    except (OSError, ssl.SSLError) as error:
        raise CameraError(f"tls.ca: {tls.ca} can't be used ({error})") from error
    if not tls.verify:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    parts = urlsplit(url)
    login, at, host = parts.netloc.rpartition("@")
    plain = urlunsplit(parts._replace(netloc=host, fragment=""))
    passwords = urllib.request.HTTPPasswordMgrWithDefaultRealm()
    if at:
        user, _, password = login.partition(":")
        passwords.add_password(None, plain, unquote(user), unquote(password))
    return plain, urllib.request.build_opener(
        urllib.request.HTTPSHandler(context=context),
        SameHost(),
        urllib.request.HTTPBasicAuthHandler(passwords),
        urllib.request.HTTPDigestAuthHandler(passwords),
    )


class SameHost(urllib.request.HTTPRedirectHandler):
    """Follows a redirect only to the same host, and never from TLS to plain HTTP."""

    def redirect_request(  # noqa: D102 - urllib's
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        old, new = urlsplit(req.full_url), urlsplit(newurl)
        if (old.scheme, old.netloc) != (new.scheme, new.netloc):
            raise urllib.error.HTTPError(
                req.full_url, code, f"redirects to another host ({new.netloc})", headers, fp
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)


class MjpegReader(StreamReader):
    """Receives the parts of an answer in a thread, so that each is stamped when it arrives.

    Args:
        answer: The open HTTP answer, at the start of its body; `close` closes it.
        boundary: The boundary between its parts, as `boundary_of` returns it.
        title: The camera's name in messages.
        timeout_s: Longest wait for a part, in seconds.
    """

    def __init__(self, answer: Any, boundary: str, title: str, timeout_s: float) -> None:  # noqa: ANN401 - urllib's
        self._answer, self._title, self._timeout_s = answer, title, timeout_s
        self._parts = MultipartParser(boundary)
        self._socket = socket.socket(fileno=os.dup(answer.fileno()))
        self._arrived: deque[tuple[int, BodyPart]] = deque(maxlen=_WAITING)
        self._changed = threading.Condition()
        self._over = False
        self._thread = threading.Thread(target=self._receive, name="mjpeg", daemon=True)
        self._thread.start()

    def _receive(self) -> None:
        with contextlib.suppress(OSError, ValueError, http.client.HTTPException):
            while data := self._answer.read1(_CHUNK):
                parts, now_ns = self._parts.feed(data), time.monotonic_ns()
                with self._changed:
                    self._arrived.extend((now_ns, part) for part in parts)
                    self._changed.notify()
        with self._changed:
            self._over = True
            self._changed.notify()

    def read(self) -> Decoded | None:
        """Waits for the next picture; see `StreamReader.read`."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._arrived or self._over, self._timeout_s):
                raise CameraError(
                    sentence("source_late", source=self._title, waited_s=self._timeout_s)
                )
            if not self._arrived:
                return None
            arrived_ns, part = self._arrived.popleft()
        image, damage = decode_partial_jpeg(part.body)
        damage = part.damage or damage
        return Decoded(image, arrived_ns, part.stamp_ms, damage=damage, key=True, intra_only=True)

    def close(self) -> None:
        """Ends the connection."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # so that the thread's read ends
        self._socket.close()
        self._thread.join(self._timeout_s)
        self._answer.close()


@dataclass(frozen=True)
class BodyPart:
    """One part of a multipart answer.

    Args:
        head: The fields of its header, with names in lower case.
        body: The bytes of its content.
        damage: The fault of its length or its end; None if there is none.
    """

    head: dict[str, str]
    body: bytes
    damage: str | None = None

    @property
    def stamp_ms(self) -> float | None:
        """When the camera says it took the picture, in ms; None where it doesn't."""
        try:
            return float(self.head["x-timestamp"]) * 1e3
        except (KeyError, ValueError):
            return None


def boundary_of(content_type: str) -> str | None:
    """Returns the boundary in a Content-Type: "" where it is missing, None if not multipart."""
    if not content_type.lower().lstrip().startswith("multipart/"):
        return None
    found = _BOUNDARY.search(content_type)
    return (found[1] or found[2]).strip("-") if found is not None else ""


class MultipartParser:
    """Splits a byte stream into its parts.

    Args:
        boundary: The boundary, as `boundary_of` returns it.

    Example:
        >>> parser = MultipartParser("frame")
        >>> parts = parser.feed(data)
    """

    def __init__(self, boundary: str) -> None:
        self._mark = b"--" + boundary.encode("latin-1", "replace")
        self._data = bytearray()
        self._head: dict[str, str] | None = None
        self._searched = 0

    def feed(self, data: bytes) -> list[BodyPart]:
        """Adds the next bytes; returns the parts that they complete."""
        self._data += data
        return list(iter(self._next, None))

    def _next(self) -> BodyPart | None:
        while self._head is not None or (self._begin() and self._head is not None):
            end, damage = self._end(self._head)
            if end is None:
                return None
            head, body = self._head, bytes(self._data[:end])
            self._forget(end)
            self._head = None
            kind = head.get("content-type", "image/")
            if kind.startswith(("image/", "application/octet-stream")):
                return BodyPart(head, body, damage)
        return None

    def _begin(self) -> bool:
        """Looks for a part's start and reads its header; returns False if it needs more bytes."""
        found = self._boundary(len(self._data), anywhere=True)
        if found is None:
            if len(self._data) > _MOST_BYTES:  # bytes that belong to no part
                self._forget(len(self._data) - len(self._mark) - 8)
            return False
        end = _HEAD_END.search(self._data, found[1] - 2, found[1] + _MOST_HEAD)
        if end is None:
            if len(self._data) > found[1] + _MOST_HEAD:
                self._forget(found[1])  # it has no header: search on behind it
                return self._begin()
            self._searched = found[0]
            return False
        lines = self._data[found[1] : end.start()].decode("latin-1").splitlines()
        fields = (line.partition(":") for line in lines)
        self._head = {name.strip().lower(): value.strip() for name, _, value in fields}
        self._forget(end.end())
        return True

    def _end(self, head: dict[str, str]) -> tuple[int | None, str | None]:
        """Returns where the part ends, None if it needs more bytes; and the part's damage."""
        declared = head.get("content-length", "")
        length = int(declared) if declared.isdecimal() and len(declared) < 10 else 0
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
        """Returns where the content before the next boundary ends, and where its line ends."""
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

    def _forget(self, length: int) -> None:
        del self._data[:length]
        self._searched = 0
