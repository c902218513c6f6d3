"""Cameras that send JPEG after JPEG over HTTP: each decoded strictly, stamped when it came."""

from __future__ import annotations

import contextlib
import http.client
import os
import socket
import threading
import time
import urllib.error
import urllib.request
from collections import deque
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

from ..config.models import CameraTls
from ..errors import CameraError
from ..redaction import redact
from ..sentences import sentence
from .certificates import SameHost, context_of
from .decoded import Decoded, StreamReader
from .jpegs import whole_or_partial
from .multipart import Part, Parts, boundary_of

_CHUNK = 1 << 18
_WAITING = 4
"""Parts that may wait to be decoded; more would be old when they are."""


def open_mjpeg(url: str, tls: CameraTls, timeouts_s: tuple[float, float]) -> StreamReader | None:
    """Opens a URL; None where its answer is no series of pictures.

    Args:
        url: With user and password where the camera asks for them.
        tls: What its certificate must be signed by.
        timeouts_s: For the answer, and for each part.

    Raises:
        CameraError: It can't be opened.
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
    """Returns the URL without user and password, and what opens it with them."""
    parts = urlsplit(url)
    login, at, host = parts.netloc.rpartition("@")
    plain = urlunsplit(parts._replace(netloc=host, fragment=""))
    passwords = urllib.request.HTTPPasswordMgrWithDefaultRealm()
    if at:
        user, _, password = login.partition(":")
        passwords.add_password(None, plain, unquote(user), unquote(password))
    return plain, urllib.request.build_opener(
        urllib.request.HTTPSHandler(context=context_of(tls)),
        SameHost(),
        urllib.request.HTTPBasicAuthHandler(passwords),
        urllib.request.HTTPDigestAuthHandler(passwords),
    )


class MjpegReader(StreamReader):
    """Reads the parts of an answer in a thread, so that each is stamped when it came.

    Args:
        answer: The open HTTP answer, at the start of its body; `close` closes it.
        boundary: Between its parts.
        title: For messages.
        timeout_s: For each part.
    """

    def __init__(self, answer: Any, boundary: str, title: str, timeout_s: float) -> None:  # noqa: ANN401 - urllib's
        self._answer, self._title, self._timeout_s = answer, title, timeout_s
        self._parts = Parts(boundary)
        self._socket = socket.socket(fileno=os.dup(answer.fileno()))
        self._came: deque[tuple[int, Part]] = deque(maxlen=_WAITING)
        self._changed = threading.Condition()
        self._over = False
        self._thread = threading.Thread(target=self._receive, name="mjpeg", daemon=True)
        self._thread.start()

    def _receive(self) -> None:
        with contextlib.suppress(OSError, ValueError, http.client.HTTPException):
            while data := self._answer.read1(_CHUNK):
                parts, now_ns = self._parts.feed(data), time.monotonic_ns()
                with self._changed:
                    self._came.extend((now_ns, part) for part in parts)
                    self._changed.notify()
        with self._changed:
            self._over = True
            self._changed.notify()

    def read(self) -> Decoded | None:
        """Waits for the next picture; see `StreamReader.read`."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._came or self._over, self._timeout_s):
                raise CameraError(
                    sentence("source_late", source=self._title, waited_s=self._timeout_s)
                )
            if not self._came:
                return None
            arrived_ns, part = self._came.popleft()
        image, damage = whole_or_partial(part.body)
        damage = part.damage or damage
        return Decoded(image, arrived_ns, _stamp_ms(part), damage=damage, key=True, alone=True)

    def close(self) -> None:
        """Ends the connection."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # so that the thread's read ends
        self._socket.close()
        self._thread.join(self._timeout_s)
        self._answer.close()


def _stamp_ms(part: Part) -> float | None:
    """Returns when the camera says that it took the picture, as some do."""
    try:
        return float(part.head["x-timestamp"]) * 1e3
    except (KeyError, ValueError):
        return None
