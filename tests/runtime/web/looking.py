"""Looking at the page as a person does: what is there, and what it says."""

from __future__ import annotations

import pytest

from differnet_runtime.web.server import WebServer
from tests.fakes.station import FakeStation
from tests.runtime.waiting import wait_for
from tests.runtime.web.browser import Browser

SOON_S = 30.0
"""For a browser on a machine that does other things as well."""


Shown = tuple[Browser, FakeStation, WebServer]


def has(browser: Browser, selector: str) -> bool:
    return browser.run(f"return document.querySelector({selector!r}) !== null")


def says(browser: Browser, selector: str, text: str) -> None:
    try:
        wait_for(lambda: text in browser.text(selector), SOON_S)
    except AssertionError:
        pytest.fail(f"{selector} says {browser.text(selector)!r}, not {text!r}")
