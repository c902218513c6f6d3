"""The page Teach before a fake of its routes, as tests look at it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import differnet_runtime.web.server as server_module
from differnet_runtime.config.models import WebConfig
from differnet_runtime.web.server import WebServer
from tests.fakes.station import FakeStation
from tests.fakes.teach_api import Dataset, FakeTeaching
from tests.runtime.waiting import wait_for
from tests.runtime.web.browser import Browser
from tests.runtime.web.looking import SOON_S, says

Taught = tuple[Browser, FakeTeaching, str]


@pytest.fixture
def taught(
    browser: Browser, running: FakeStation, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Taught]:
    """The page with nothing taught yet; no error may stand in its console in the end."""
    fake, build = FakeTeaching(running), server_module.build
    monkeypatch.setattr(server_module, "build", lambda *a, **k: fake.before(build(*a, **k)))
    server = WebServer(WebConfig(port=0), running, running.registry)
    server.start()
    browser.look(1440, 900, "light")
    browser.complaints()
    address = server.url.rstrip("/") + "/teach"
    browser.go(address)
    wait_for(lambda: shown_picture(browser), SOON_S)
    yield browser, fake, address
    browser.go("about:blank")
    server.stop()
    assert [one for one in browser.complaints() if "409" not in one] == []  # a refusal, told there


def shown_picture(browser: Browser) -> bool:
    found: bool = browser.run("return document.getElementById('live').naturalWidth > 0")
    return found


def open_part(taught: Taught, parts: int, **more: Any) -> Dataset:
    """Opens a dataset that has some parts already."""
    browser, fake, address = taught
    dataset = fake.datasets["cover"] = Dataset("cover", "left", None, **more)
    for _ in range(parts):
        dataset.add()
    browser.go("about:blank")
    browser.go(f"{address}#part=cover")
    says(browser, "#collected", str(parts))
    return dataset
