"""The daemon as systemd runs it: told when it is ready, pinged for, reloaded, and stopped."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

START_S = 60.0
CONFIG = """
[station]
state = "state"
[model]
backend = "fake:5ms"
[web]
enabled = false
[evidence]
keep = "none"
[camera.top]
source = "parts"
"""


class Systemd:
    """Starts the daemon as the unit does, and reads what it says."""

    def __init__(self, folder: Path) -> None:
        self.config = folder / "line3.toml"
        self.config.write_text(CONFIG)
        (folder / "parts").mkdir()
        cv2.imwrite(str(folder / "parts" / "1.png"), np.full((64, 64, 3), 90, np.uint8))
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(folder / "notify"))
        environment = {
            **os.environ,
            "NOTIFY_SOCKET": str(folder / "notify"),
            "WATCHDOG_USEC": "4000000",
        }
        environment.pop("WATCHDOG_PID", None)
        self.log = (folder / "log").open("w+b")
        main = "import sys; from differnet_runtime.cli import main; sys.exit(main())"
        command = [sys.executable, "-c", main, "run", "--config", str(self.config)]
        self.process = subprocess.Popen(command, env=environment, stderr=self.log)

    def wait_for(self, state: str, timeout_s: float = START_S) -> str:
        """Reads until a state comes; returns all of that datagram."""
        until = time.monotonic() + timeout_s
        while (left_s := until - time.monotonic()) > 0 and self.process.poll() is None:
            self.socket.settimeout(min(1.0, left_s))
            with contextlib.suppress(TimeoutError):
                text = self.socket.recv(4096).decode()
                if state in text.split("\n"):
                    return text
        raise AssertionError(f"no {state} within {timeout_s} s; log:\n{self.written()}")

    def drain(self) -> None:
        """Throws away what was sent so far."""
        self.socket.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                self.socket.recv(4096)

    def written(self) -> str:
        self.log.flush()
        return Path(self.log.name).read_text()

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.socket.close()
        self.log.close()


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[Systemd]:
    started = Systemd(tmp_path)
    yield started
    started.close()


def test_a_life_under_systemd(systemd: Systemd) -> None:
    assert "STATUS=" in systemd.wait_for("READY=1")
    for _ in range(2):
        systemd.wait_for("WATCHDOG=1", 10)

    systemd.config.write_text(CONFIG + "stall = 3\n")
    systemd.process.send_signal(signal.SIGHUP)
    assert "MONOTONIC_USEC=" in systemd.wait_for("RELOADING=1", 10)
    systemd.wait_for("READY=1", 10)
    systemd.wait_for("WATCHDOG=1", 10)
    assert "camera.top.stall: unknown key; did you mean stall_s?" in systemd.written()

    systemd.process.send_signal(signal.SIGTERM)
    systemd.wait_for("STOPPING=1", 10)
    assert systemd.process.wait(15) == 0


def test_a_daemon_that_hangs_is_not_pinged_for(systemd: Systemd) -> None:
    systemd.wait_for("WATCHDOG=1")
    systemd.process.send_signal(signal.SIGSTOP)
    try:
        time.sleep(0.2)
        systemd.drain()
        with pytest.raises(AssertionError, match="no WATCHDOG=1"):
            systemd.wait_for("WATCHDOG=1", 4)
    finally:
        systemd.process.send_signal(signal.SIGCONT)
    systemd.wait_for("WATCHDOG=1", 10)
