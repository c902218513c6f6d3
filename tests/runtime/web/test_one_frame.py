"""Picture and verdict on the live page belong to one frame, at every moment."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from differnet_runtime.events import InspectionEvent
from differnet_runtime.records import Decision, Frame, Inspection, Verdict
from differnet_runtime.web.live import Jpeg
from tests.fakes.station import FakeStation
from tests.runtime.waiting import wait_for
from tests.runtime.web.looking import SOON_S, Shown, has, says

SAMPLE = """
    window.sampled = [];
    const canvas = document.createElement('canvas');
    const context = canvas.getContext('2d', {willReadFrequently: true});
    canvas.width = canvas.height = 1;
    (function look() {
      const card = document.querySelector('[data-camera=left]');
      const image = card.querySelector('img'), score = card.querySelector('.score').textContent;
      context.drawImage(image, 0, 0, 1, 1);
      window.sampled.push([context.getImageData(0, 0, 1, 1).data[0], parseFloat(score)]);
      requestAnimationFrame(look);
    })();"""


def show_grey(station: FakeStation, level: int) -> None:
    """Shows a frame that is as bright as its score says."""
    like = station.seen["left"].last
    assert like is not None
    update = {"id": f"{time.monotonic_ns():032x}", "at_s": time.time(), "score": float(level)}
    event = like.model_copy(update=update)
    frame = Frame(np.full((64, 64, 3), level, np.uint8), "f", 0, time.monotonic_ns(), time.time())
    inspection = Inspection("f", 0, frame.captured_at_s, Decision(Verdict.GOOD))
    station.show("left", frame, inspection, event)


@contextmanager
def judging(station: FakeStation) -> Iterator[None]:
    """Shows eight frames a second, each 20 levels from the one before."""
    stop = threading.Event()

    def judge() -> None:
        for number in itertools.cycle(range(1, 12)):
            show_grey(station, 20 * number)
            if stop.wait(0.12):
                return

    thread = threading.Thread(target=judge)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def test_picture_and_verdict_are_always_of_one_frame(
    shown: Shown, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pictures are slower to come than verdicts, as over a bad line."""
    browser, station, _ = shown
    station.stop()
    newest = station.jpeg

    def slow(camera: str, *, overlay: bool) -> Jpeg | None:
        jpeg = newest(camera, overlay=overlay)
        time.sleep(0.15)
        return jpeg

    monkeypatch.setattr(station, "jpeg", slow)
    with judging(station):
        says(browser, "[data-camera=left] .score", "0.0 / ")
        browser.run(SAMPLE)
        seen = "return new Set(window.sampled.map((one) => one[1])).size"
        wait_for(lambda: browser.run(seen) >= 8, SOON_S)
        samples = browser.run("return window.sampled")
    assert [pair for pair in samples if abs(pair[0] - pair[1]) > 5] == []


def test_a_verdict_without_a_picture_is_not_shown_beside_another_one(shown: Shown) -> None:
    browser, station, _ = shown
    station.stop()
    station.seen["left"].trigger = "command"
    station.judge("left", defect=False)
    says(browser, "[data-camera=left] .word", "GOOD")
    undecided = InspectionEvent(
        station="demo", camera="left", verdict="NO_DECISION", reject=True, code="deadline"
    )
    station.seen["left"].last = undecided
    station.recent.add(undecided)
    says(browser, "[data-camera=left] .word", "NO DECISION")
    says(browser, "[data-camera=left] .veil", "No picture for this verdict")
    station.judge("left", defect=False)
    says(browser, "[data-camera=left] .word", "GOOD")
    assert not has(browser, ".alone[data-camera=left]")
