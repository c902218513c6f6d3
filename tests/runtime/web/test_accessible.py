"""axe-core on the station's pages."""

from __future__ import annotations

import pytest

from tests.runtime.waiting import wait_for
from tests.runtime.web.accessible import require_axe, serious_faults
from tests.runtime.web.looking import SOON_S, Shown, has, says
from tests.runtime.web.teaching import (
    Taught,
    begin_training,
    collect,
    open_part,
    taught,
    teachable,
    train,
)

__all__ = ["taught", "teachable"]


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


@pytest.mark.parametrize(
    ("width", "scheme"), [(1440, "light"), (1440, "dark"), (800, "light"), (390, "dark")]
)
def test_it_fits_and_axe_finds_nothing_serious(taught: Taught, width: int, scheme: str) -> None:
    browser, station = taught.browser, taught.station
    axe = require_axe()
    browser.look(width, 900, scheme)
    assert serious_faults(browser, axe) == []
    dataset = open_part(taught, 12, repeats=3)
    collect(dataset, "darker than the others")
    station.teaching.keep("cover", "000004", kept=False)
    begin_training(taught)
    says(browser, "#counts", "1 thrown out")
    assert serious_faults(browser, axe) == []
    train(taught, dataset)
    browser.run("document.getElementById('elsewhere').open = true")
    says(browser, "#figures", "scratch from")
    browser.click("#try")
    says(browser, "#try-figures", "Same verdict")
    assert serious_faults(browser, axe) == []
    rightmost = browser.run("""
        const seen = [...document.querySelectorAll('main *')].filter(
          (one) => one.checkVisibility());
        return Math.max(...seen.map((one) => one.getBoundingClientRect().right));""")
    assert rightmost <= width
