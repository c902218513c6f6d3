"""systemd is told by datagrams on a real socket, with a path and without one."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from differnet_runtime.station.running import Notifier


class Manager:
    """The other end: what systemd would read."""

    def __init__(self, address: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address)
        self.socket.settimeout(5)

    def read(self) -> dict[str, str]:
        text = self.socket.recv(4096).decode()
        return dict(line.split("=", 1) for line in text.split("\n"))

    def silent(self) -> bool:
        self.socket.setblocking(False)
        try:
            self.socket.recv(4096)
        except BlockingIOError:
            return True
        finally:
            self.socket.settimeout(5)
        return False


@pytest.fixture(params=["path", "abstract"])
def manager(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Manager]:
    name = str(tmp_path / "notify") if request.param == "path" else f"\0differnet-{os.getpid()}"
    listening = Manager(name)
    monkeypatch.setenv("NOTIFY_SOCKET", name.replace("\0", "@"))
    monkeypatch.delenv("WATCHDOG_USEC", raising=False)
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    yield listening
    listening.socket.close()


def test_a_life_is_told_in_order(manager: Manager) -> None:
    notifier = Notifier()
    notifier.ready("inspecting with one camera")
    assert manager.read() == {"READY": "1", "STATUS": "inspecting with one camera"}
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    notifier.reloading()
    told = manager.read()
    assert told["RELOADING"] == "1"
    assert before <= int(told["MONOTONIC_USEC"]) <= time.clock_gettime_ns(1) // 1000
    notifier.stopping()
    assert manager.read() == {"STOPPING": "1"}
    notifier.close()
    notifier.ready("no more")
    assert manager.silent()


def test_pings_are_sent_only_as_often_as_the_watchdog_needs(
    manager: Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "3600000000")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    notifier = Notifier()
    assert notifier.watchdog_s == 3600.0
    for _ in range(100):
        notifier.watchdog()
    assert manager.read() == {"WATCHDOG": "1"}
    assert manager.silent()
    notifier.close()

    monkeypatch.setenv("WATCHDOG_USEC", "40000")
    notifier = Notifier()
    for _ in range(2):
        notifier.watchdog()
        assert manager.read() == {"WATCHDOG": "1"}
        time.sleep(0.011)
    notifier.close()


@pytest.mark.parametrize(
    ("microseconds", "process"), [("5000000", "1"), ("0", None), ("soon", None), ("", None)]
)
def test_no_ping_where_systemd_does_not_watch_this_process(
    manager: Manager, monkeypatch: pytest.MonkeyPatch, microseconds: str, process: str | None
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", microseconds)
    if process:
        monkeypatch.setenv("WATCHDOG_PID", process)
    notifier = Notifier()
    notifier.watchdog()
    assert notifier.watchdog_s is None
    assert manager.silent()
    notifier.close()


def test_without_systemd_nothing_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    monkeypatch.setenv("WATCHDOG_USEC", "5000000")
    notifier = Notifier()
    notifier.ready("alone")
    notifier.watchdog()
    assert notifier.watchdog_s is None


def test_a_full_or_vanished_socket_holds_nothing_up(
    manager: Manager, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "1")
    notifier = Notifier()
    for _ in range(1000):  # nobody reads: the queue of the socket fills
        notifier.watchdog()
    assert len(caplog.records) == 1
    while not manager.silent():
        pass
    notifier.watchdog()
    assert manager.read() == {"WATCHDOG": "1"}
    manager.socket.close()
    notifier.stopping()
    notifier.close()
    assert len(caplog.records) == 2
