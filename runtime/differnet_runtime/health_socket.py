"""A socket in the state folder that says how the station is, apart from the page and strangers.

Only the station's own user and root can reach it, so it needs no token and no certificate, and it
answers whatever is done to the page. It speaks HTTP: `curl --unix-socket health.sock
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
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

NAME = "health.sock"
_AGAIN_S, _TURN_S, _CLIENT_S = 5.0, 0.5, 2.0
log = logging.getLogger(__name__)

Answer = Callable[[str], tuple[int, bytes] | None]
"""Gives status and JSON for a path (`/livez`); None where there is nothing."""


class HealthSocket:
    """Answers in a thread of its own; a folder that can't be written is tried again.

    Args:
        folder: The station's state folder.
        answer: See `Answer`.
    """

    def __init__(self, folder: Path, answer: Answer) -> None:
        self._folder, self._answer = folder, answer
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="health", daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def stop(self, timeout_s: float = 1.0) -> None:
        """Ends the thread, and takes the socket away."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

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
    """Asks a station on this machine; returns the status of its answer.

    Args:
        folder: Its state folder.
        path: `/livez` or `/readyz`.
        timeout_s: For connection and answer each.

    Raises:
        OSError: Nobody answers.
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
    """Yields the socket's address: at most 107 bytes, however long the folder's path is."""
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
        self._path.unlink(missing_ok=True)  # of a station that was killed
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
        """The journal has no use for a line at each check."""
