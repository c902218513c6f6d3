"""The operator's view, the page's languages and its alarms, in a real Chromium."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from differnet_runtime.sentences import sentence
from differnet_runtime.web.views import EvidenceEntry
from tests.fakes.station import FakeStation
from tests.runtime.waiting import wait_for
from tests.runtime.web.browser import Browser
from tests.runtime.web.looking import SOON_S, Shown, has, says

ESCAPE = "\ue00c"
COUNT_TONES = """
    window.tones = 0;
    const start = OscillatorNode.prototype.start;
    OscillatorNode.prototype.start = function (...at) {
      window.tones++;
      return start.apply(this, at);
    };"""
FIRST = "return document.activeElement === document.querySelector('#rejects .thumb')"


@pytest.fixture
def operated(shown: Shown) -> Iterator[tuple[Browser, FakeStation]]:
    """The operator's view of a station that judges only when told to."""
    browser, station, server = shown
    station.stop()
    station.seen["right"].trigger = station.seen["left"].trigger = "command"
    browser.go(server.url + "?view=operator")
    wait_for(lambda: has(browser, "[data-view=operator] .camera"), SOON_S)
    yield browser, station
    assert browser.complaints() == []


def visible(browser: Browser, selector: str) -> int:
    found = f"[...document.querySelectorAll({selector!r})]"
    return browser.run(f"return {found}.filter((one) => one.checkVisibility()).length")


def shows(browser: Browser, camera: str, word: str) -> None:
    says(browser, f"[data-camera={camera}] .word", word)


def test_one_camera_is_large_and_says_its_verdict_by_word_and_symbol(
    operated: tuple[Browser, FakeStation],
) -> None:
    browser, station = operated
    station.judge("left", defect=False)
    shows(browser, "left", "GOOD")
    assert visible(browser, ".camera .frame") == 1
    assert visible(browser, ".engineer, .detail, #subtitle") == 0
    assert has(browser, "[data-camera=left] .sign .symbol.good")
    station.judge("left", defect=True)
    shows(browser, "left", "DEFECT")
    assert has(browser, "[data-camera=left] .sign .symbol.defect")
    band = "document.querySelector('[data-camera=left] .band').getBoundingClientRect()"
    assert browser.run(f"return {band}.width >= document.documentElement.clientWidth")
    style = "getComputedStyle(document.querySelector('[data-camera=left] .word'))"
    assert browser.run(f"return parseFloat({style}.fontSize)") >= 90
    says(browser, "#today", "Today")
    says(browser, "#today", "Yield")


def test_keys_and_buttons_choose_the_camera_and_the_choice_is_remembered(
    operated: tuple[Browser, FakeStation],
) -> None:
    browser, station = operated
    station.judge("right", defect=False)
    wait_for(lambda: has(browser, "#choose button"), SOON_S)
    browser.press("2")
    wait_for(lambda: visible(browser, "[data-camera=right] .frame") == 1, SOON_S)
    shows(browser, "right", "GOOD")
    assert visible(browser, "[data-camera=left] .frame") == 0
    browser.run("location.reload()")
    shows(browser, "right", "GOOD")
    browser.click("#choose button")
    wait_for(lambda: visible(browser, "[data-camera=left] .frame") == 1, SOON_S)
    browser.click("#view")
    wait_for(lambda: visible(browser, ".camera .frame") == 2, SOON_S)
    assert "operator" not in browser.run("return location.href")


def test_last_rejects_open_and_the_focus_comes_back(
    operated: tuple[Browser, FakeStation],
) -> None:
    browser, station = operated
    station.judge("left", defect=True, part="SCRATCHED-7")
    says(browser, "#rejects", "SCRATCHED-7")
    browser.click("#rejects .thumb")
    says(browser, "#picture-title", "SCRATCHED-7")
    browser.press(ESCAPE)
    wait_for(lambda: not has(browser, "#picture[open]"), SOON_S)
    assert browser.run(FIRST)


def test_the_picture_of_a_reject_is_awaited_until_it_is_written(
    operated: tuple[Browser, FakeStation], monkeypatch: pytest.MonkeyPatch
) -> None:
    browser, station = operated
    station.judge("left", defect=True, part="BEFORE")
    says(browser, "#rejects", "BEFORE")
    written, asked, tries = station.evidence, itertools.count(1), 20

    def writing(
        camera: str | None, verdict: str | None, before: str | None, limit: int
    ) -> list[EvidenceEntry]:
        entries = written(camera, verdict, before, limit)
        late = verdict == "DEFECT" and next(asked) < tries
        return [one for one in entries if one.part != "LATE"] if late else entries

    monkeypatch.setattr(station, "evidence", writing)
    station.judge("left", defect=True, part="LATE")
    says(browser, "#rejects", "LATE")


def test_a_reject_sounds_only_if_wanted(operated: tuple[Browser, FakeStation]) -> None:
    browser, station = operated
    says(browser, "#sound", "Sound off")
    browser.run(COUNT_TONES)
    station.judge("left", defect=True, part="SILENT")
    browser.click("#view")
    says(browser, "#verdicts", "SILENT")
    browser.click("#view")
    browser.click("#sound")
    says(browser, "#sound", "Sound on")
    station.judge("left", defect=False)
    station.judge("right", defect=True)
    wait_for(lambda: has(browser, "#choose button:last-child .symbol.defect"), SOON_S)
    assert browser.run("return window.tones") == 0
    station.judge("left", defect=True)
    wait_for(lambda: browser.run("return window.tones") == 1, SOON_S)
    browser.run("location.reload()")
    says(browser, "#sound", "Touch for sound")
    browser.click("#sound")
    says(browser, "#sound", "Sound on")
    browser.click("#sound")
    says(browser, "#sound", "Sound off")


def test_a_camera_that_rejects_everything_is_not_green(shown: Shown) -> None:
    browser, station, _ = shown
    station.degraded.append("parts:left: all_rejected: every part is rejected")
    says(browser, "#banner", "Camera left: every part is rejected.")
    says(browser, "[data-camera=left] .chip", "Every part is rejected")
    says(browser, "#health", "Attention")
    assert has(browser, ".alarmed[data-camera=left]")
    assert not has(browser, "#health.good")
    dot = "getComputedStyle(document.querySelector('[data-camera=left] .tag'), '::before')"
    green, amber = "rgb(74, 222, 128)", "rgb(251, 191, 36)"
    assert browser.run(f"return {dot}.backgroundColor") == amber != green


def test_alarms_are_said_with_their_figures(shown: Shown) -> None:
    browser, station, _ = shown
    station.degraded += ["parts:left: too_many_rejects: text", "parts:right: no_part: text"]
    says(browser, "#banner", "Camera left: at least 3 of 5 consecutive verdicts were not good.")
    says(browser, "#banner", "Camera right: no part for more than 30 s.")


@pytest.fixture
def abroad(browser: Browser) -> Iterator[Browser]:
    yield browser
    browser.speak("en-US")


def test_the_browser_chooses_the_language_and_the_footer_another(
    abroad: Browser, shown: Shown
) -> None:
    browser, station, server = shown
    browser.speak("zh-CN,en")
    browser.go(server.url)
    says(browser, "#health", "就绪")
    assert browser.run("return document.documentElement.lang") == "zh-Hans"
    browser.click("[data-language=de]")
    says(browser, "#health", "Bereit")
    says(browser, "[data-camera=left] .score", ",")
    station.degraded.append("sink:mqtt: down: the broker refused the connection")
    says(browser, "#banner", "Ergebnisse erreichen mqtt nicht.")
    says(browser, "#banner", "the broker refused the connection")
    browser.run("location.reload()")
    says(browser, "#health", "Achtung")
    assert browser.run("return document.documentElement.lang") == "de"


def test_the_station_s_sentences_are_in_the_pages_language_too(
    abroad: Browser, shown: Shown
) -> None:
    browser, station, server = shown
    browser.speak("de-DE")
    browser.go(server.url)
    refused = sentence("broker_took_none", why="Connection refused")
    station.degraded.append(f"sink:mqtt: down: {refused}")
    says(browser, "#banner", "Der Broker hat die Ereignisse nicht angenommen: Verbindung abgelehnt")
    lost = sentence("stream_slow", source="rtsp://10.0.0.5/left", behind_s=2.5)
    station.seen["left"].state, station.seen["left"].reason = "lost", lost
    says(browser, "[data-camera=left] .veil", "beim Lesen schon 2,5 s alt")
    browser.speak("zh-CN")
    browser.go(server.url)
    says(browser, "[data-camera=left] .veil", "图像读取时已滞后 2.5 秒")
    says(browser, "#banner", "连接被拒绝")


def test_the_focus_is_where_it_was_after_escape_though_the_button_was_built_anew(
    shown: Shown, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser, station, _ = shown
    wait_for(lambda: has(browser, "#models button"), SOON_S)
    browser.click("#models button")
    wait_for(lambda: has(browser, "#confirm[open]"), SOON_S)
    browser.run("window.before = document.querySelector('#models button')")
    now = [one.model_copy(update={"threshold": 7.0}) for one in station.models()]
    monkeypatch.setattr(station, "models", lambda: now)
    says(browser, "#models", "threshold 7.000")
    assert not browser.run("return window.before.isConnected")
    browser.press(ESCAPE)
    wait_for(lambda: not has(browser, "#confirm[open]"), SOON_S)
    back = "return document.activeElement === document.querySelector('#models button')"
    wait_for(lambda: browser.run(back), SOON_S)


def test_the_engine_says_in_a_line_why_it_is_not_faster_and_folds_the_rest(shown: Shown) -> None:
    browser, _, _ = shown
    says(browser, "#engine", "Runs on the CPU: this machine has no NVIDIA GPU.")
    assert "tensorrt" not in browser.text("#engine")
    browser.click("#engine summary")
    says(browser, "#engine", "tensorrt: no NVIDIA GPU")
    answers = browser.text("#engine .counts")
    wait_for(lambda: browser.text("#engine .counts") != answers, SOON_S)
    assert has(browser, "#engine details[open]")
