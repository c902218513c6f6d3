"""A server before a station of drawn parts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from differnet_runtime.config.models import WebConfig
from differnet_runtime.web.server import WebServer
from tests.fakes.station import FakeStation
from tests.runtime.waiting import wait_for
from tests.runtime.web.browser import Browser, chromium
from tests.runtime.web.client import Client, of, serving
from tests.runtime.web.looking import SOON_S, has


def small_station(folder: Path) -> FakeStation:
    """Two cameras, one of which judges on command; three verdicts, one of them a defect."""
    folder.mkdir(parents=True, exist_ok=True)
    station = FakeStation(folder)
    station.seen["right"].trigger = "command"
    for camera, defect in (("left", False), ("left", True), ("right", False)):
        station.judge(camera, defect=defect)
    return station


@pytest.fixture
def station(tmp_path: Path) -> Iterator[FakeStation]:
    """A small station."""
    station = small_station(tmp_path / "evidence")
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


@pytest.fixture(scope="session")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A client of a small station that all tests share; change nothing there."""
    with serving(small_station(tmp_path_factory.mktemp("steady"))) as client:
        yield client


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture
def running(tmp_path: Path) -> Iterator[FakeStation]:
    """A station that judges five parts a second."""
    station = small_station(tmp_path / "evidence")
    station.run(5)
    yield station
    station.stop()


@pytest.fixture
def shown(
    browser: Browser, running: FakeStation
) -> Iterator[tuple[Browser, FakeStation, WebServer]]:
    """The page, with a live picture on it; no error may stand in its console in the end."""
    server = WebServer(WebConfig(port=0), running, running.registry)
    server.start()
    browser.look(1400, 1000, "light")
    browser.complaints()
    browser.go(server.url)
    wait_for(lambda: has(browser, ".camera.live[data-camera=left]"), SOON_S)
    yield browser, running, server
    browser.go("about:blank")
    server.stop()
