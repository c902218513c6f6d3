"""The socket for health checks: reachable by the own user only, whatever is in its way."""

from __future__ import annotations

import logging
import socket
import stat
from pathlib import Path

import pytest

from differnet_runtime.station import health_socket
from differnet_runtime.station.health_socket import NAME, HealthSocket, ask
from tests.runtime.waiting import wait_for


def answer(path: str) -> tuple[int, bytes] | None:
    return {"/livez": (200, b'{"live":true}'), "/readyz": (503, b"{}")}.get(path)


def started(folder: Path) -> HealthSocket:
    health = HealthSocket(folder, answer)
    health.start()
    wait_for(lambda: answers(folder))
    return health


def answers(folder: Path) -> bool:
    try:
        return ask(folder, "/livez", 10) == 200
    except OSError:
        return False


def test_it_answers_and_goes_with_the_station(tmp_path: Path) -> None:
    health = started(tmp_path)
    assert stat.S_IMODE((tmp_path / NAME).stat().st_mode) == 0o600
    assert [ask(tmp_path, path, 10) for path in ("/livez", "/readyz", "/")] == [200, 503, 404]
    health.stop(10)
    assert not (tmp_path / NAME).exists()


def test_a_killed_station_leaves_nothing_in_the_way(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(tmp_path / NAME))
    started(tmp_path).stop(10)


def test_a_folder_may_have_a_long_name(tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 120)
    folder.mkdir()
    started(folder).stop(10)


def test_one_that_asks_nothing_holds_others_up_for_a_moment_only(tmp_path: Path) -> None:
    health = started(tmp_path)
    with socket.socket(socket.AF_UNIX) as silent:
        silent.connect(str(tmp_path / NAME))
        assert ask(tmp_path, "/livez", 20) == 200
    health.stop(10)


def test_a_folder_that_comes_later_is_found(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health_socket, "_AGAIN_S", 0.02)
    folder = tmp_path / "state"
    health = HealthSocket(folder, answer)
    with caplog.at_level(logging.WARNING):
        health.start()
        wait_for(lambda: caplog.records)
        folder.mkdir()
        wait_for(lambda: answers(folder))
    assert len(caplog.records) == 1
    assert "state/health.sock can't be created" in caplog.text
    health.stop(10)
