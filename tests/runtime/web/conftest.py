"""A server before a station of drawn parts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from differnet_runtime.config.models import WebConfig
from differnet_runtime.web.server import WebServer
from tests.fakes.station import FakeStation
from tests.runtime.web.client import Client, of


@pytest.fixture
def station(tmp_path: Path) -> Iterator[FakeStation]:
    """Two cameras, one of which judges on command; three verdicts, one of them a defect."""
    (tmp_path / "evidence").mkdir()
    station = FakeStation(tmp_path / "evidence")
    station.seen["right"].trigger = "command"
    for camera, defect in (("left", False), ("left", True), ("right", False)):
        station.judge(camera, defect=defect)
    yield station
    station.stop()


@pytest.fixture
def server(station: FakeStation) -> Iterator[WebServer]:
    """Bound to loopback, without a token."""
    server = WebServer(WebConfig(port=0), station, station.registry)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def client(server: WebServer) -> Iterator[Client]:
    client = of(server)
    yield client
    client.close()
