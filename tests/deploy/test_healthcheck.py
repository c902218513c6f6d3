"""The container's health check tells a station that lives from one that does not."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from differnet_runtime.station.health_socket import NAME, HealthSocket
from tests.runtime.waiting import wait_for

SCRIPT = Path(__file__).parents[2] / "deploy" / "healthcheck.py"
STATION = '[model]\nbackend = "fake"\n[camera.top]\nsource = "0"\n'


class Answers:
    """What the station says."""

    status = 200

    def __call__(self, path: str) -> tuple[int, bytes] | None:
        return (self.status, b"{}") if path == "/livez" else None


@pytest.fixture
def answers() -> Answers:
    return Answers()


@pytest.fixture
def station(tmp_path: Path, answers: Answers) -> Iterator[HealthSocket]:
    (tmp_path / "state").mkdir()
    health = HealthSocket(tmp_path / "state", answers)
    health.start()
    wait_for((tmp_path / "state" / NAME).exists)
    yield health
    health.stop(10)


def check(folder: Path, more: str = "") -> subprocess.CompletedProcess[str]:
    path = folder / "station.toml"
    path.write_text(f'[station]\nstate = "state"\n{STATION}{more}')
    return subprocess.run(
        [sys.executable, SCRIPT],
        env={**os.environ, "DIFFERNET_CONFIG": str(path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_alive_or_not(station: HealthSocket, answers: Answers, tmp_path: Path) -> None:
    assert check(tmp_path).returncode == 0
    assert check(tmp_path, "[web]\nenabled = false\n").returncode == 0
    answers.status = 503
    assert check(tmp_path).returncode == 1
    station.stop(10)
    done = check(tmp_path)
    assert done.returncode == 1
    assert f"{tmp_path / 'state' / NAME}: nobody answers" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_configuration_with_a_mistake_is_no_living_station(tmp_path: Path) -> None:
    done = check(tmp_path, "[web]\nprt = 1\n")
    assert done.returncode == 1
    assert "web.prt" in done.stderr


def test_neither_token_nor_certificate_is_needed(station: HealthSocket, tmp_path: Path) -> None:
    web = '[web]\nhost = "station.plant"\ntoken_file = "none"\n'
    tls = '[web.tls]\ncertificate = "none.pem"\nkey = "none.pem"\n'
    assert check(tmp_path, web + tls).returncode == 0
