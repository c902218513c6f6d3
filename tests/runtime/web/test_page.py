"""The page in a real Chromium: what a person sees, and what they are told when they can't."""

from __future__ import annotations

from pathlib import Path

import pytest

from differnet_runtime.config.models import WebConfig
from differnet_runtime.web.server import WebServer
from tests.fakes.station import FakeStation
from tests.runtime.waiting import wait_for
from tests.runtime.web.browser import Browser
from tests.runtime.web.client import TOKEN, certificate
from tests.runtime.web.looking import SOON_S, Shown, has, says


def pixels(browser: Browser, camera: str) -> str:
    """Returns the picture that is shown, as a data URL."""
    return browser.run(f"""
        const image = document.querySelector('[data-camera={camera}] img');
        const canvas = document.createElement('canvas');
        canvas.width = image.naturalWidth; canvas.height = image.naturalHeight;
        canvas.getContext('2d').drawImage(image, 0, 0);
        return canvas.toDataURL();""")


def test_pictures_and_verdicts_move(shown: Shown) -> None:
    browser, station, _ = shown
    says(browser, "#health", "Ready")
    says(browser, "[data-camera=left] .word", "GOOD")
    first, number = pixels(browser, "left"), station.recent.number
    wait_for(lambda: pixels(browser, "left") != first, SOON_S)
    says(browser, "#verdicts", "left")
    wait_for(lambda: station.recent.number > number, SOON_S)
    station.stop()  # else it would soon be pushed out by others
    station.judge("left", defect=True, part="SCRATCHED-7")
    says(browser, "#verdicts", "SCRATCHED-7")
    assert browser.complaints() == []


def coloured_rows(browser: Browser) -> dict[str, list[int]]:
    """Returns, by colour, the row of each coloured pixel of the chart, counted from its bottom."""
    return browser.run("""
        const canvas = document.getElementById('chart');
        const data = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
        const found = {green: [], red: []};
        for (let at = 0; at < data.length; at += 4) {
          const [red, green, blue, alpha] = data.slice(at, at + 4);
          if (alpha < 128) continue;
          const row = canvas.height - Math.floor(at / 4 / canvas.width);
          if (green > red + 60 && green > blue + 40) found.green.push(row);
          if (red > green + 90 && red > blue + 90) found.red.push(row);
        }
        return found;""")


def test_it_is_said_which_head_decided(shown: Shown) -> None:
    browser, station, _ = shown
    station.stop()
    station.judge("left", defect=False)
    says(browser, "[data-camera=left] .decided", "Decided by small details")
    station.judge("left", defect=True, part="AS-A-WHOLE")
    says(browser, "[data-camera=left] .decided", "The picture as a whole is unusual")
    says(browser, "#verdicts", "The picture as a whole is unusual")


def test_the_chart_has_points_and_the_threshold(shown: Shown) -> None:
    browser, _, _ = shown
    says(browser, "#verdicts", "DEFECT")
    rows = coloured_rows(browser)
    assert len(rows["green"]) > 5
    assert len(rows["red"]) > 5


def test_good_scores_are_told_apart_beside_defects_of_fifty_times_as_much(shown: Shown) -> None:
    browser, station, _ = shown
    station.stop()
    defect = station.judge("left", defect=True)
    for number in range(30):
        update = {"id": f"{number:032x}", "score": 60.0 + number, "part": f"PART-{number}"}
        station.recent.add(defect.model_copy(update=update))
    says(browser, "#verdicts", "PART-29")
    axis = 22
    wait_for(lambda: min(coloured_rows(browser)["green"], default=0) > axis + 3, SOON_S)
    assert max(coloured_rows(browser)["red"]) > 100


def test_a_stopped_camera_is_never_shown_as_live(shown: Shown) -> None:
    browser, station, _ = shown
    camera = station.seen["left"]
    camera.state, camera.reason = "stalled", "no new frame for 3.2 s"
    says(browser, "[data-camera=left] .veil", "no new frame for 3.2 s")
    says(browser, "#banner", "Camera left gives no new pictures.")
    assert browser.text("body").count("no new frame for 3.2 s") == 1
    assert not has(browser, ".camera.live[data-camera=left]")
    assert "GOOD" not in browser.text("[data-camera=left] .word")
    camera.state, camera.reason = "running", None
    wait_for(lambda: has(browser, ".camera.live[data-camera=left]"), SOON_S)


def test_frames_that_stop_coming_are_noticed_without_being_told(shown: Shown) -> None:
    browser, station, _ = shown
    station.stop()
    says(browser, "[data-camera=left] .veil", "No fresh picture")
    assert station.overview().cameras[0].state == "running"


def test_a_lost_station_is_said_and_one_that_is_back_shown(shown: Shown) -> None:
    browser, station, server = shown
    port = int(server.url.rstrip("/").rpartition(":")[2])
    server.stop()
    says(browser, "#banner", "Connection to the station lost")
    says(browser, "#health", "Not connected")
    wait_for(lambda: not has(browser, ".camera.live"), SOON_S)
    again = WebServer(WebConfig(port=port), station, station.registry)
    again.start()
    try:
        wait_for(lambda: has(browser, ".camera.live[data-camera=left]"), SOON_S)
        station.stop()
        station.judge("left", part="BACK-AGAIN", defect=True)
        says(browser, "#verdicts", "BACK-AGAIN")
        wait_for(lambda: browser.run("return document.getElementById('banner').hidden"), SOON_S)
    finally:
        browser.go("about:blank")
        again.stop()


def test_degraded_is_said_with_its_reason(shown: Shown) -> None:
    browser, station, _ = shown
    station.degraded.append("evidence: degraded: the disk is full")
    says(browser, "#banner", "the disk is full")
    says(browser, "#health", "Attention")
    says(browser, "#engine", "fallback")


def test_evidence_opens_large_with_its_heatmap(shown: Shown) -> None:
    browser, _, _ = shown
    wait_for(lambda: has(browser, ".thumb"), SOON_S)
    browser.click(".thumb")
    loaded = (
        "return [...document.querySelectorAll('#picture img')].filter(i => i.naturalWidth).length"
    )
    wait_for(lambda: browser.run(loaded) == 2, SOON_S)
    says(browser, "#picture", "DEFECT")
    says(browser, "#picture", "The picture as a whole is unusual; the heatmap shows")
    browser.click("#picture-close")
    assert not has(browser, "#picture[open]")


def test_verdicts_that_come_move_no_button(shown: Shown) -> None:
    """A click on what has just moved is lost, or meets something else."""
    browser, station, _ = shown
    wait_for(lambda: has(browser, "#models button"), SOON_S)
    place = "return document.querySelector('#models button').getBoundingClientRect().top"
    before = browser.run(place)
    station.stop()
    for number in range(12):
        station.judge("left", part=f"PART-{number}")
    says(browser, "#verdicts", "PART-11")
    assert browser.run(place) == before


def test_a_model_is_switched_only_after_a_yes(shown: Shown) -> None:
    browser, station, _ = shown
    wait_for(lambda: has(browser, "#models button"), SOON_S)
    for answer, active in (("#confirm [value=no]", 0), ("#confirm-yes", 1)):
        browser.click("#models button")
        wait_for(lambda: has(browser, "#confirm[open]"), SOON_S)
        browser.click(answer)
        wait_for(lambda: not has(browser, "#confirm[open]"), SOON_S)
        wait_for(lambda active=active: station.active == active, SOON_S)
    says(browser, "#models .model:nth-child(2)", "judges now")


def test_a_part_is_judged_by_a_button(shown: Shown) -> None:
    browser, station, _ = shown
    before = station.seen["right"].frames
    wait_for(lambda: has(browser, "[data-camera=right] button:not([hidden])"), SOON_S)
    browser.click("[data-camera=right] button")
    wait_for(lambda: station.seen["right"].frames == before + 1, SOON_S)


def test_words_of_the_station_are_never_markup(shown: Shown) -> None:
    browser, station, _ = shown
    evil = "<img src=x onerror=\"document.title='owned'\">"
    station.stop()
    station.judge("left", part=evil, defect=True)
    station.degraded.append(evil)
    says(browser, "#banner", "onerror")
    says(browser, "#verdicts", "onerror")
    assert not has(browser, "#banner img, #verdicts img, #evidence [onerror]")
    assert browser.run("return document.title") != "owned"


@pytest.mark.parametrize(("width", "height"), [(1920, 1080), (390, 844)])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_wall_screens_and_phones(
    shown: Shown, width: int, height: int, scheme: str
) -> None:
    browser, _, _ = shown
    browser.look(width, height, scheme)
    wide = browser.run("return [document.documentElement.scrollWidth, innerWidth]")
    assert wide[0] <= wide[1]
    ground = browser.run("return getComputedStyle(document.body).backgroundColor")
    dark = sum(int(part) for part in ground.strip("rgb()").split(",")) < 200
    assert dark == (scheme == "dark")
    bottom = browser.run("return document.querySelector('[data-camera=left] .word')"
                         ".getBoundingClientRect().bottom")  # fmt: skip
    assert 0 < bottom < height


def test_with_a_token_a_person_logs_in_and_out(
    browser: Browser, running: FakeStation, tmp_path: Path
) -> None:
    token = tmp_path / "token"
    token.write_text(TOKEN, encoding="utf-8")
    config = WebConfig(port=0, token_file=token, tls=certificate(tmp_path), changes=False)
    server = WebServer(config, running, running.registry)
    server.start()
    browser.look(1400, 1000, "light")
    try:
        browser.go(server.url)
        assert "demo" not in browser.run("return document.documentElement.outerHTML")
        browser.write("#token", "not the token")
        browser.click("button")
        says(browser, "label", "Wrong token")
        browser.write("#token", TOKEN)
        browser.click("button")
        wait_for(lambda: has(browser, ".camera.live[data-camera=left]"), SOON_S)
        says(browser, "#models", "judges now")
        assert not has(browser, "#models button")
        wait_for(lambda: browser.run("return !document.getElementById('logout').hidden"), SOON_S)
        browser.click("#logout button")
        wait_for(lambda: has(browser, "#token"), SOON_S)
    finally:
        browser.go("about:blank")
        server.stop()
