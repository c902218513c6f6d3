"""The evidence view in a real Chromium: label, go on by keys, take over a threshold, undo it."""

from __future__ import annotations

from tests.fakes.station import THRESHOLD
from tests.runtime.waiting import wait_for
from tests.runtime.web.looking import SOON_S, Shown, has, says

LEFT, RIGHT, ESCAPE = "\ue012", "\ue014", "\ue00c"
FOCUSED = "return [...document.querySelectorAll('.thumb')].indexOf(document.activeElement)"

FIRST_OTHER = """
    const slider = document.getElementById('threshold');
    for (slider.value = 0; ; slider.stepUp()) {
      slider.dispatchEvent(new Event('input'));
      if (!document.getElementById('use-threshold').disabled) return;
    }"""
"""Moves the slider to the lowest threshold that is not in use."""


def test_a_person_labels_by_keys_and_takes_over_the_threshold(shown: Shown) -> None:
    browser, station, _ = shown
    station.stop()
    scores = [station.judge("left", defect=True, part=f"PART-{k}").score for k in range(3)]
    assert all(score is not None and score > THRESHOLD for score in scores)
    says(browser, ".thumb", "PART-2")
    browser.click(".thumb")
    says(browser, "#picture-title", "PART-2")
    assert browser.run("return document.getElementById('picture-previous').disabled")
    href = browser.run("return document.getElementById('picture-download').getAttribute('href')")
    assert href.endswith("/image")
    browser.click("#label-good")
    says(browser, "#label-said", "Labelled: good")
    browser.write("#label-good", RIGHT)
    says(browser, "#picture-title", "PART-1")
    assert browser.run("return document.getElementById('label-said').textContent") == ""
    browser.write("#label-kind", "scratch" + LEFT)  # the arrow moves within the text
    browser.click("#label-defect")
    says(browser, "#label-said", "Labelled: scratch")
    assert "PART-1" in browser.text("#picture-title")
    browser.write("#label-defect", ESCAPE)
    wait_for(lambda: not has(browser, "#picture[open]"), SOON_S)
    wait_for(lambda: browser.run(FOCUSED) == 1, SOON_S)
    assert sorted(one.label for one in station.labelled.values()) == ["defect", "good"]
    says(browser, ".thumb", "is good")

    says(browser, "#labels", "Good ones rejected: 1 of 1. Defects missed: 0 of 1.")
    move = "const s = document.getElementById('threshold'); s.value = s.max;"
    browser.run(move + "s.dispatchEvent(new Event('input'))")
    says(browser, "#threshold-text", "defects missed: 1 of 1")
    browser.click("#use-threshold")
    wait_for(lambda: has(browser, "#confirm[open]"), SOON_S)
    browser.click("#confirm-yes")
    says(browser, "#labels", "labelled as defects would be judged good")
    assert station.changes == []
    browser.run(FIRST_OTHER)
    says(browser, "#threshold-text", "defects missed: 0 of 1")
    browser.click("#use-threshold")
    wait_for(lambda: has(browser, "#confirm[open]"), SOON_S)
    browser.click("#confirm-yes")
    says(browser, "#labels", "set on this station")
    assert len(station.changes) == 1
    browser.click("#labels .undo")
    says(browser, "#labels", "from the model")
    assert station.changes[0].undone
    refused = [one for one in browser.complaints() if "409" not in one]
    assert refused == []


def test_a_label_can_be_taken_back(shown: Shown) -> None:
    browser, station, _ = shown
    station.stop()
    station.judge("left", defect=True, part="PART-0")
    says(browser, ".thumb", "PART-0")
    browser.click(".thumb")
    browser.click("#label-good")
    says(browser, "#label-said", "Labelled: good")
    browser.click("#label-none")
    wait_for(lambda: station.labelled == {}, SOON_S)
    wait_for(lambda: browser.text("#label-said") == "", SOON_S)
