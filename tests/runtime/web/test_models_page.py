"""The models' cards in a real Chromium: what a model is, its note, and a trial of it."""

from __future__ import annotations

from tests.fakes.station import HASHES
from tests.runtime.waiting import wait_for
from tests.runtime.web.looking import SOON_S, Shown, has, says

OTHER = "#models .model:nth-child(2)"


def test_a_card_says_what_the_model_is_and_keeps_a_note(shown: Shown) -> None:
    browser, station, _ = shown
    says(browser, OTHER, "Trained Nov 21, 2026 on 40 parts")
    says(browser, OTHER, "Detection limit: scratch from 9 px at contrast 40")
    browser.write(f"{OTHER} .note input", "for the new light")
    browser.click(f"{OTHER} .note button")
    wait_for(lambda: station.notes.get(HASHES[1]) == "for the new light", SOON_S)
    browser.run("location.reload()")
    wait_for(lambda: has(browser, f"{OTHER} .note input"), SOON_S)
    assert browser.run(f"return document.querySelector('{OTHER} .note input').value")


def test_a_note_that_is_being_written_is_not_built_anew(shown: Shown) -> None:
    browser, station, _ = shown
    wait_for(lambda: has(browser, f"{OTHER} .note input"), SOON_S)
    browser.write(f"{OTHER} .note input", "half a")
    station.notes[HASHES[0]] = "by somebody else"
    asked = "return performance.getEntriesByName(location.origin + '/api/models').length"
    before = browser.run(asked)
    wait_for(lambda: browser.run(asked) > before + 1, SOON_S)
    assert browser.run("return document.activeElement.value") == "half a"


def test_a_model_is_tried_beside_the_one_that_judges(shown: Shown) -> None:
    browser, station, _ = shown
    wait_for(lambda: has(browser, f"{OTHER} [data-focus^=try]"), SOON_S)
    assert not has(browser, "#models .model:first-child [data-focus^=try]")
    browser.click(f"{OTHER} [data-focus^=try]")
    says(browser, f"{OTHER} .shadow", "Trial on left: running. It rejects no parts.")
    says(browser, f"{OTHER} .shadow", "40 frames, 97.5% with the same verdict.")
    says(browser, f"{OTHER} .shadow", "Rejected only by the current model: 1; only by this one: 0.")
    says(browser, f"{OTHER} .differing", "current: DEFECT 1.600, this one: GOOD 1.100")
    loaded = f"return document.querySelector('{OTHER} .differing img').naturalWidth"
    wait_for(lambda: browser.run(loaded) > 0, SOON_S)
    assert station.shadow("left") is not None
    browser.click(f"{OTHER} .shadow button")
    wait_for(lambda: station.shadow("left") is None, SOON_S)
    wait_for(lambda: not has(browser, f"{OTHER} .shadow"), SOON_S)
    assert browser.complaints() == []
