"""Runs a station until it is told to stop: signals, reloads, watchdog, heartbeat."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from pathlib import Path

from .. import logs
from ..config import Config, WebConfig
from ..config.loading import load_config
from ..errors import ConfigError, DifferNetError
from ..health_socket import HealthSocket
from ..processes import share_freed_memory
from ..systemd import Notifier
from ..web.audit import FILES
from ..web.secrets import read_web_secrets
from ..web.server import WebServer
from .health import StateWatch
from .station import Station

_TICK_S = 0.2
_SWITCH_S = 0.0005
"""Python's switch interval: how long a camera's thread waits for the interpreter lock while the web
server computes. It waits several times a frame, and Python's own interval is 5 ms."""
_FORCED = 1
_UMASK = 0o027
"""What the station writes, others can't read; its children inherit it."""

log = logging.getLogger(__name__)


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
            self._replace_web(new.web, others="web" in renewal.changes.tables)
            self.station.reconfigure(renewal)
            logs.set_level(new.station.log_level)
            self.station.configuration_problem = None
            for warning in loaded.warnings:
                log.warning("%s", warning)
            log.info("%s was read again; changed: %s", self._path, renewal.changes or "nothing")
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
