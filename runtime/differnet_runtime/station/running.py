"""The daemon: runs a station until it is told to stop, with signals, reloads and systemd."""

from __future__ import annotations

import logging
import math
import os
import signal
import socket
import sys
import threading
import time
from pathlib import Path

from .. import logs
from ..config import Config, WebConfig
from ..config.loading import load_config
from ..errors import ConfigError, DifferNetError
from ..processes import share_freed_memory
from ..web.audit import FILES
from ..web.server import WebServer, read_web_secrets
from .health import StateWatch
from .health_socket import HealthSocket
from .station import Station

_TICK_S = 0.2
_SWITCH_S = 0.0005
"""Python's switch interval, during which a camera's thread waits for the GIL while the web server
computes. It waits several times per frame, and Python's default is 5 ms."""
_FORCED = 1
"""Exit code after a second signal."""
_UMASK = 0o027
"""Keeps other users from reading what the station and its children write."""

log = logging.getLogger(__name__)


def run_station(path: Path) -> int:
    """Runs `differnet run --config`.

    Args:
        path: Path of the configuration file.

    Returns:
        The exit code, 0 after it was told to stop.

    Raises:
        DifferNetError: It can't start; the message names the key or file that is wrong.
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
    """Owns a station, its page and its health socket, from start to stop.

    Args:
        path: The configuration file, read again on SIGHUP.
        config: The configuration read from it.
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
        self._watch = StateWatch(self.station.tell)
        self._next_beat_ns = 0

    def run(self) -> None:
        """Runs until SIGTERM or SIGINT; a second signal ends the process at once."""
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
        if self._notifier.due and self.station.live():
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
        except Exception as error:  # a bug must not end what runs
            why = f": {error}"
            if not isinstance(error, DifferNetError):
                log.exception("reload")
                why = f" ({type(error).__name__}: {error})"
            problem = f"the new configuration is not used{why}"
            self.station.configuration_problem = problem
            self.station.control.audit.add("configuration", FILES, error=problem)
        self._notifier.ready("inspecting")

    def _refuse_lasting_changes(self, new: Config) -> None:
        old = self.station.config.station
        for key in ("name", "state"):
            if getattr(old, key) != getattr(new.station, key):
                raise ConfigError(f"station.{key} can't change while the station runs: restart it")

    def _replace_web(self, new: WebConfig, *, others: bool) -> None:
        """Replaces the page's server if needed; the old one comes back if the new one can't start.

        Args:
            new: `[web]` of the new configuration.
            others: Whether its token or certificate may have changed in the same files.
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
        self._health.stop(1.0)

    def _told_to_stop(self, number: int, _: object) -> None:
        if self._stopping.is_set():
            os._exit(_FORCED)
        log.info("told to stop by %s", signal.Signals(number).name)
        self._stopping.set()
        self._wake.set()

    def _told_to_reload(self, _number: int, _: object) -> None:
        self._reloading.set()
        self._wake.set()


class Notifier:
    """Reports states to systemd (sd_notify(3)) if `$NOTIFY_SOCKET` names its socket.

    It never waits for a datagram: inspection counts more than a status line, and the next call
    repeats a watchdog ping that did not get through.

    Example:
        >>> notifier = Notifier()
        >>> notifier.ready("inspecting")
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
        """Seconds without a ping after which systemd restarts the daemon; None if it does not."""
        self._pinged_s = -math.inf
        self._failed = False

    def ready(self, status: str) -> None:
        """Reports the end of the start, or of a reload."""
        self._send("READY=1", f"STATUS={status}")

    def reloading(self) -> None:
        """Reports that the configuration is read again; `ready` ends it."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """Reports that the daemon is about to end."""
        self._send("STOPPING=1")

    @property
    def due(self) -> bool:
        """Whether a ping is due, which is at most four times per watchdog interval."""
        every_s = math.inf if self.watchdog_s is None else self.watchdog_s / 4
        return time.monotonic() - self._pinged_s > every_s

    def watchdog(self) -> None:
        """Pings if that is due; call it while every thread progresses."""
        if self.due and self._send("WATCHDOG=1"):
            self._pinged_s = time.monotonic()

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
    """Returns the watchdog interval that systemd sets for this very process."""
    microseconds = os.environ.get("WATCHDOG_USEC", "")
    process = os.environ.get("WATCHDOG_PID") or str(os.getpid())
    if not microseconds.isdecimal() or int(microseconds) == 0 or process != str(os.getpid()):
        return None
    return int(microseconds) / 1e6
