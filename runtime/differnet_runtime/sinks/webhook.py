"""Events over HTTP: POSTed as a JSON list, taken when the answer is 2xx."""

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
from .base import BusyError, Sink, Stored, Took, cause_of, client_context, unheard

_PASSING = (408, 425, 429)
"""Of the 4xx: those that a later attempt may not get."""

_ANSWER = 4096
"""Bytes of an answer that are read: only its status counts, and a body may have no end."""

log = logging.getLogger(__name__)


@contextlib.contextmanager
def _whole_head_in_time(connection: HTTPConnection) -> Iterator[None]:
    """Ends a connection whose answer's head takes too long: urllib3's limit is on each piece."""
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
        if late.is_set():  # in place of whatever its reader saw
            raise TimeoutError("the answer's head came too slowly")


class _Http(HTTPConnection):
    def getresponse(self) -> HTTPResponse:  # type: ignore[override]
        with _whole_head_in_time(self):
            return super().getresponse()


class _Https(HTTPSConnection):
    def getresponse(self) -> HTTPResponse:  # type: ignore[override]
        with _whole_head_in_time(self):
            return super().getresponse()


class _HttpPool(urllib3.HTTPConnectionPool):
    ConnectionCls = _Http


class _HttpsPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _Https


class WebhookSink(Sink):
    """POSTs a batch at a time.

    Args:
        name: Of the receiver, from `[webhook.NAME]`.
        config: Address, token, certificates.

    Raises:
        ConfigError: The token or a certificate can't be read.
    """

    def __init__(self, name: str, config: WebhookConfig) -> None:
        super().__init__(f"webhook:{name}")
        self._url = config.url
        self._timeout_s = config.timeout_s
        self._told: set[int] = set()
        self._headers = {"Content-Type": "application/json", "User-Agent": "differnet-edge"}
        if config.token_file is not None:
            self._headers["Authorization"] = f"Bearer {read_secret(config.token_file)}"
        timeout = urllib3.Timeout(connect=config.timeout_s, read=config.timeout_s)
        context = client_context(config.tls) if config.tls is not None else None
        self._pool = urllib3.PoolManager(
            maxsize=1, timeout=timeout, retries=False, ssl_context=context
        )
        self._pool.pool_classes_by_scheme = {"http": _HttpPool, "https": _HttpsPool}

    def deliver(self, events: Sequence[Stored], took: Took = unheard) -> None:  # noqa: ARG002 - all at once
        """POSTs events; see `Sink.deliver`."""
        body = "[" + ",".join(event.text for event in events) + "]"
        try:
            response = self._pool.request(
                "POST",
                self._url,
                body=body.encode(),
                headers=self._headers,
                redirect=False,
                preload_content=False,
            )
            status, retry_after = response.status, response.headers.get("Retry-After")
        except urllib3.exceptions.HTTPError as error:
            # urllib3's own words hold the address, and it may hold a password.
            raise SinkError(sentence("no_answer", why=cause_of(error))) from error
        self._drain(response)
        self._judge(status, retry_after)

    def _drain(self, response: urllib3.BaseHTTPResponse) -> None:
        """Reads a short answer, so that the connection can be used again; it may come in drops."""
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

    def _judge(self, status: int, retry_after: str | None) -> None:
        if 200 <= status < 300:
            self._told.clear()
            return
        text = sentence("answer_status", status=status)
        if 400 <= status < 500 and status not in _PASSING:
            text = sentence("answer_refused", status=status)
            if status not in self._told:  # it is tried every few seconds, for days
                log.error("sink %s: %s", self.name, text)
                self._told.add(status)
        wait_s = _seconds(retry_after)
        raise BusyError(text, wait_s) if wait_s is not None else SinkError(text)

    def close(self) -> None:
        """Closes the connections; see `Sink.close`."""
        self._pool.clear()


def _seconds(retry_after: str | None) -> float | None:
    """Reads `Retry-After`: seconds, or a date; None where it is neither."""
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
