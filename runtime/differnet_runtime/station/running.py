"""Runs a station until it is told to stop: signals, reloads, watchdog, heartbeat.

What systemd is told (sd_notify(3)): ready, alive, reloading, stopping; else nothing.

A socket in the state folder that says how the station is, apart from the page and strangers.

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
import signal
import socket
import socketserver
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from .. import logs
from ..config import Config, WebConfig
from ..config.loading import load_config
from ..errors import ConfigError, DifferNetError
from ..processes import share_freed_memory
from ..web.audit import FILES
from ..web.server import WebServer, read_web_secrets
from .health import StateWatch
from .station import Station

log = logging.getLogger(__name__)


class Notifier:
    """Sends states to the socket that systemd names in `$NOTIFY_SOCKET`; nothing where it is unset.

    A datagram is never waited for: inspection counts more than a status line, and a watchdog ping
    that did not get through is sent again by the next call.
    """

    def __init__(self) -> None:
        address = os.environ.get("NOTIFY_SOCKET", "")
        # A leading @ stands for the zero byte of a socket without a path.
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._socket: socket.socket | None = None
        if address.startswith(("/", "@")):
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._socket.setblocking(False)
        self.watchdog_s = _watchdog_s() if self._socket else None
        """systemd restarts the daemon when no ping came for so long; None: it does not watch."""
        self._pinged_ns: int | None = None
        self._failed = False

    def ready(self, status: str) -> None:
        """Says that the start, or a reload, is over."""
        self._send("READY=1", f"STATUS={_line(status)}")

    def status(self, text: str) -> None:
        """Sets the line that `systemctl status` shows."""
        self._send(f"STATUS={_line(text)}")

    def reloading(self) -> None:
        """Says that the configuration is read again; `ready` ends it."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """Says that the daemon ends by itself."""
        self._send("STOPPING=1")

    def watchdog(self) -> None:
        """Pings, four times in the watchdog's interval at most, so it may be called at every turn.

        The caller calls it only while every stage makes progress.
        """
        if self.watchdog_s is None:
            return
        now_ns = time.monotonic_ns()
        due = self._pinged_ns is None or now_ns - self._pinged_ns >= self.watchdog_s * 1e9 / 4
        if due and self._send("WATCHDOG=1"):
            self._pinged_ns = now_ns

    def close(self) -> None:
        """Closes the socket; later states are sent nowhere."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send(self, *states: str) -> bool:
        if self._socket is None:
            return False
        try:
            self._socket.sendto("\n".join(states).encode(), self._address)
        except OSError as error:
            if not self._failed:
                log.warning("systemd can't be told %s: %s", states[0], error)
            self._failed = True
            return False
        self._failed = False
        return True


def _watchdog_s() -> float | None:
    """Reads the interval that systemd asks of this process, and of no other."""
    microseconds = os.environ.get("WATCHDOG_USEC", "")
    process = os.environ.get("WATCHDOG_PID") or str(os.getpid())
    if not microseconds.isdecimal() or int(microseconds) == 0 or process != str(os.getpid()):
        return None
    return int(microseconds) / 1e6


def _line(text: str) -> str:
    """Keeps a status on one line: a second one would be read as another state."""
    return " ".join(text.split())


NAME = "health.sock"
_AGAIN_S, _TURN_S, _CLIENT_S = 5.0, 0.5, 2.0

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


_TICK_S = 0.2
_SWITCH_S = 0.0005
"""Python's switch interval: how long a camera's thread waits for the interpreter lock while the web
server computes. It waits several times a frame, and Python's own interval is 5 ms."""
_FORCED = 1
_UMASK = 0o027
"""What the station writes, others can't read; its children inherit it."""


def run_station(path: Path) -> int:
    """Runs `differnet run --config`.

    Args:
        path: The configuration file.

    Returns:
        The exit code: 0 after it was told to stop.

    Raises:
        DifferNetError: It can't start; says which key or file is wrong.
    """
    os.umask(os.umask(_UMASK) | _UMASK)
    sys.setswitchinterval(_SWITCH_S)
    share_freed_memory()
    loaded = load_config(path)
    config = loaded.config
    logs.start(config.station.log_level)
    for warning in loaded.warnings:
        log.warning("%s", warning)
    Runner(path, config).run()
    return 0


class Runner:
    """One life of the daemon.

    Args:
        path: The configuration file, read again on SIGHUP.
        config: As it was read.
    """

    def __init__(self, path: Path, config: Config) -> None:
        self._path = path
        self._notifier = Notifier()
        self._stopping, self._reloading = threading.Event(), threading.Event()
        self._wake = threading.Event()
        self.station = Station(config)
        self._web_config = config.web
        self._web = self._web_server(config.web)
        self._health = HealthSocket(config.station.state, self.station.control.health_answer)
        self._watch = StateWatch(config.station.name, self.station.tell)
        self._next_beat_ns = 0

    def run(self) -> None:
        """Runs until SIGTERM or SIGINT; a second one ends the process at once."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._told_to_stop)
        signal.signal(signal.SIGHUP, self._told_to_reload)
        self._health.start()
        if self._web is not None:
            self._web.start()
        self.station.start()
        self._notifier.ready(f"inspecting with {len(self.station.cameras)} camera(s)")
        while not self._stopping.is_set():
            self._tick()
            self._wake.wait(_TICK_S)
            self._wake.clear()
        self._stop()

    def _tick(self) -> None:
        if self._reloading.is_set():
            self._reloading.clear()
            self._reload()
        states = self.station.states()
        self._watch.see(states)
        mqtt = self.station.config.mqtt
        if mqtt is not None and time.monotonic_ns() >= self._next_beat_ns:
            self._next_beat_ns = time.monotonic_ns() + int(mqtt.heartbeat_s * 1e9)
            if inspecting := self.station.inspecting(states):
                self.station.results.beat(inspecting)
        if self.station.live():
            self._notifier.watchdog()

    def _reload(self) -> None:
        self._notifier.reloading()
        try:
            loaded = load_config(self._path)
            new = loaded.config
            self._refuse_lasting_changes(new)
            renewal = self.station.prepare(new)
            self._replace_web(new.web, others="web" in renewal.changes)
            self.station.reconfigure(renewal)
            logs.set_level(new.station.log_level)
            self.station.configuration_problem = None
            for warning in loaded.warnings:
                log.warning("%s", warning)
            changed = ", ".join(renewal.changes) or "nothing"
            log.info("%s was read again; changed: %s", self._path, changed)
        except DifferNetError as error:
            self._not_taken_over(f"the new configuration is not used: {error}")
        except Exception as error:  # a mistake of ours must not end what runs
            log.exception("reload")
            self._not_taken_over(
                f"the new configuration is not used ({type(error).__name__}: {error})"
            )
        self._notifier.ready("inspecting")

    def _not_taken_over(self, why: str) -> None:
        self.station.configuration_problem = why
        self.station.control.audit.add("configuration", FILES, error=why)

    def _refuse_lasting_changes(self, new: Config) -> None:
        old = self.station.config.station
        for key in ("name", "state"):
            if getattr(old, key) != getattr(new.station, key):
                raise ConfigError(f"station.{key} can't change while the station runs: restart it")

    def _replace_web(self, new: WebConfig, *, others: bool) -> None:
        """Changes the page's server; where the new one can't be had, the old one comes back.

        Args:
            new: `[web]`.
            others: Whether its token or certificate may be others, in the same files.
        """
        old = self._web_config
        if new == old and (self._web is None or self._web.alive):
            if self._web is not None and others:
                self._web.use(read_web_secrets(new))
            return
        server = self._web_server(new)  # reads its secrets: what is wrong there touches nothing
        if self._web is not None:
            self._web.stop()  # it may hold the very port
        try:
            if server is not None:
                server.start()
        except ConfigError:
            self._web = self._web_server(old)
            if self._web is not None:
                self._web.start()
            raise
        self._web, self._web_config = server, new

    def _web_server(self, config: WebConfig) -> WebServer | None:
        if not config.enabled:
            return None
        return WebServer(config, self.station.control, self.station.metrics.registry)

    def _stop(self) -> None:
        self._notifier.stopping()
        log.info("the station stops")
        if self._web is not None:
            self._web.stop()
        self.station.stop()
        self._health.stop()

    def _told_to_stop(self, number: int, _: object) -> None:
        if self._stopping.is_set():
            os._exit(_FORCED)
        log.info("told to stop by %s", signal.Signals(number).name)
        self._stopping.set()
        self._wake.set()

    def _told_to_reload(self, _number: int, _: object) -> None:
        self._reloading.set()
        self._wake.set()
