"""The webhook sink: POSTs events as a JSON list; a 2xx status acknowledges them."""

from __future__ import annotations

import contextlib
import datetime
import email.utils
import logging
import socket
import threading
import time
from collections.abc import Iterator, Sequence

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.response import HTTPResponse

from ..config import WebhookConfig
from ..config.paths import read_secret
from ..errors import SinkError
from ..sentences import sentence
from . import BusyError, Sink, Stored, Took, unheard
from .tls import cause_of, client_context

_PASSING = (408, 425, 429)
"""4xx statuses that a later attempt may not get."""
_ANSWER = 4096
"""Bytes of an answer's body that are read; only its status counts, and a body may be endless."""

log = logging.getLogger(__name__)


class WebhookSink(Sink):
    """POSTs one batch at a time.

    Args:
        name: Name of the receiver, from `[webhook.NAME]`.
        config: Address, token and certificates.

    Raises:
        ConfigError: The token or a certificate can't be read.

    Example:
        >>> sink = WebhookSink("plant", WebhookConfig(url="https://plant.example/events"))
        >>> sink.deliver([Stored(1, "6f...", '{"type": "inspection"}')])
    """

    def __init__(self, name: str, config: WebhookConfig) -> None:
        super().__init__(f"webhook:{name}")
        self._url = config.url
        self._timeout_s = config.timeout_s
        self._logged: set[int] = set()
        """Statuses that were logged since the last success."""
        self._headers = {"Content-Type": "application/json", "User-Agent": "differnet-edge"}
        if config.token_file is not None:
            self._headers["Authorization"] = f"Bearer {read_secret(config.token_file)}"
        self._pool = urllib3.PoolManager(
            maxsize=1,
            timeout=urllib3.Timeout(connect=config.timeout_s, read=config.timeout_s),
            retries=False,
            ssl_context=client_context(config.tls) if config.tls is not None else None,
        )
        self._pool.pool_classes_by_scheme = {"http": _HttpPool, "https": _HttpsPool}

    def deliver(self, events: Sequence[Stored], took: Took = unheard) -> None:  # noqa: ARG002 - all at once
        """POSTs events; see `Sink.deliver`."""
        try:
            response = self._pool.request(
                "POST",
                self._url,
                body=f"[{','.join(event.text for event in events)}]".encode(),
                headers=self._headers,
                redirect=False,
                preload_content=False,
            )
        except urllib3.exceptions.HTTPError as error:
            # urllib3's own message holds the address, which may hold a password.
            raise SinkError(sentence("no_answer", why=cause_of(error))) from error
        self._drain(response)
        self._check(response.status, response.headers.get("Retry-After"))

    def _drain(self, response: urllib3.BaseHTTPResponse) -> None:
        """Reads a short body, which may come slowly, so that the connection can be used again."""
        until_s, left = time.monotonic() + self._timeout_s, _ANSWER
        if (response.length_remaining or 0) > left:
            left = 0
        with contextlib.suppress(urllib3.exceptions.HTTPError, OSError, ValueError):
            while left > 0 and time.monotonic() < until_s:
                piece = response.read1(left, decode_content=False)
                if not piece:
                    return
                left -= len(piece)
        response.close()

    def _check(self, status: int, retry_after: str | None) -> None:
        if 200 <= status < 300:
            self._logged.clear()
            return
        text = sentence("answer_status", status=status)
        if 400 <= status < 500 and status not in _PASSING:
            text = sentence("answer_refused", status=status)
            if status not in self._logged:  # it is tried every few seconds, for days
                log.error("sink %s: %s", self.name, text)
                self._logged.add(status)
        wait_s = _seconds(retry_after)
        raise SinkError(text) if wait_s is None else BusyError(text, wait_s)

    def close(self) -> None:
        """Closes the connections; see `Sink.close`."""
        self._pool.clear()


def _seconds(retry_after: str | None) -> float | None:
    """Parses `Retry-After`, seconds or a date; None if it is neither."""
    if retry_after is None:
        return None
    if retry_after.strip().isdecimal():
        return float(retry_after)
    try:
        at = email.utils.parsedate_to_datetime(retry_after)
    except ValueError:
        return None
    at = at if at.tzinfo else at.replace(tzinfo=datetime.timezone.utc)
    return max(0.0, (at - datetime.datetime.now(datetime.timezone.utc)).total_seconds())


@contextlib.contextmanager
def _head_within_timeout(connection: HTTPConnection) -> Iterator[None]:
    """Ends a connection whose whole header takes too long; urllib3 limits only each piece of it."""
    link, late = connection.sock, threading.Event()

    def end() -> None:
        late.set()
        with contextlib.suppress(OSError):
            socket.socket.shutdown(link, socket.SHUT_RDWR)  # its reader sees the end, TLS or not

    timer = threading.Timer(float(connection.timeout or 0), end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        if late.is_set():  # instead of the error that the reader got
            raise TimeoutError("the answer's head came too slowly")


class _Http(HTTPConnection):
    def getresponse(self) -> HTTPResponse:  # type: ignore[override]
        with _head_within_timeout(self):
            return super().getresponse()


class _Https(_Http, HTTPSConnection):
    """The same over TLS."""


class _HttpPool(urllib3.HTTPConnectionPool):
    ConnectionCls = _Http


class _HttpsPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _Https
