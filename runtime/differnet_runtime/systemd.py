"""What systemd is told (sd_notify(3)): ready, alive, reloading, stopping; else nothing."""

from __future__ import annotations

import logging
import os
import socket
import time

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
