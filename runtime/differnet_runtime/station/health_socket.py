"""A socket in the state folder for health checks, apart from the page and from strangers.

Only the station's own user and root can reach it, so it needs no token and no certificate, and it
answers whatever happens to the page. It speaks HTTP: `curl --unix-socket health.sock
http://station/livez`.
"""

from __future__ import annotations

import contextlib
import http.client
import http.server
import logging
import os
import socket
import socketserver
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ..service import Service

NAME = "health.sock"
_AGAIN_S, _TURN_S, _CLIENT_S = 5.0, 0.5, 2.0

Answer = Callable[[str], tuple[int, bytes] | None]
"""Returns status and JSON for a path such as `/livez`; None if there is no such path."""

log = logging.getLogger(__name__)


class HealthSocket(Service):
    """Answers in a thread of its own, until `stop` removes the socket; retries a read-only folder.

    Args:
        folder: State folder of the station.
        answer: Answers a request; see `Answer`.
    """

    def __init__(self, folder: Path, answer: Answer) -> None:
        super().__init__("health")
        self._folder, self._answer = folder, answer

    def _run(self) -> None:
        told: str | None = None
        while not self._stopping.is_set():
            try:
                self._serve()
            except OSError as error:  # noqa: PERF203 - the next try may succeed
                why = error.strerror or str(error)
                if why != told:
                    text = "%s can't be created; health checks fail until it is: %s"
                    log.warning(text, self._folder / NAME, why)
                    told = why
                self._stopping.wait(_AGAIN_S)

    def _serve(self) -> None:
        with _reachable(self._folder) as path, _Server(path, self._answer) as server:
            while not self._stopping.is_set():
                server.handle_request()


def ask(folder: Path, path: str, timeout_s: float) -> int:
    """Asks a station on this machine; returns the HTTP status of its answer.

    Args:
        folder: State folder of the station.
        path: Path of the request, `/livez` or `/readyz`.
        timeout_s: Time for the connection, and again for the answer.

    Raises:
        OSError: No station answers there.
        http.client.HTTPException: Something else answers.
    """
    connection = http.client.HTTPConnection("station", timeout=timeout_s)
    with _reachable(folder) as name, socket.socket(socket.AF_UNIX) as connected:
        connected.settimeout(timeout_s)
        connected.connect(name)
        connection.sock = connected
        connection.request("GET", path)
        return connection.getresponse().status


@contextmanager
def _reachable(folder: Path) -> Iterator[str]:
    """Yields an address of the socket of at most 107 bytes, however long the folder's path is."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{descriptor}/{NAME}"
    finally:
        os.close(descriptor)


class _Server(socketserver.UnixStreamServer):
    timeout = _TURN_S

    def __init__(self, path: str, answer: Answer) -> None:
        self.answer = answer
        self._path = Path(path)
        self._path.unlink(missing_ok=True)  # left by a station that was killed
        super().__init__(path, _Handler)

    def server_bind(self) -> None:
        super().server_bind()
        self._path.chmod(0o600)

    def server_close(self) -> None:
        super().server_close()
        with contextlib.suppress(OSError):
            self._path.unlink()

    def handle_error(self, *_: object) -> None:
        log.debug("a health check ended early", exc_info=True)


class _Handler(http.server.BaseHTTPRequestHandler):
    timeout = _CLIENT_S
    server: _Server

    def do_GET(self) -> None:
        status, body = self.server.answer(self.path) or (404, b"{}")
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Logs nothing: the journal has no use for a line per check."""
