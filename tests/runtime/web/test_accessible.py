"""axe-core on the station's page; the page Teach has its own tests."""

from __future__ import annotations

import pytest

from tests.runtime.waiting import wait_for
from tests.runtime.web.accessible import require_axe, serious_faults
from tests.runtime.web.looking import SOON_S, Shown, has, says


@pytest.mark.parametrize(("width", "scheme"), [(1440, "light"), (390, "dark")])
def test_the_page_has_no_serious_fault(shown: Shown, width: int, scheme: str) -> None:
    browser, station, _ = shown
    axe = require_axe()
    station.stop()
    station.judge("left", defect=True, part="PART-0")
    browser.look(width, 900, scheme)
    says(browser, ".thumb", "PART-0")
    wait_for(lambda: has(browser, "#models button"), SOON_S)
    assert serious_faults(browser, axe) == []
    browser.click(".thumb")
    wait_for(lambda: has(browser, "#picture[open]"), SOON_S)
    assert serious_faults(browser, axe) == []
    browser.click("#picture-close")
    browser.click("#models button")
    wait_for(lambda: has(browser, "#confirm[open]"), SOON_S)
    assert serious_faults(browser, axe) == []


def test_a_fault_would_be_found(shown: Shown) -> None:
    browser, _, _ = shown
    axe = require_axe()
    browser.run("document.querySelector('header').append(document.createElement('button'))")
    assert any("button-name" in fault for fault in serious_faults(browser, axe))
