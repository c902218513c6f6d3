"""From an empty station to a judged part by the keyboard alone: a real station, a real Chromium."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from differnet_runtime.detector import Detector
from differnet_runtime.records import Verdict
from tests.drawn import draw_part
from tests.fakes.running import DIFFERNET, RunningStation
from tests.runtime.waiting import wait_for
from tests.runtime.web.browser import Browser, chromium
from tests.runtime.web.keyboard import (
    ENTER,
    ESCAPE,
    LEFT,
    RIGHT,
    SPACE,
    choose_file,
    enter,
    focus,
    press,
    tab_to,
)
from tests.runtime.web.looking import SOON_S, has, says

NAME, DIFFERENT, REPEATS, SIZE = "ring", 28, 12, 64
TRAINED_S, JUDGES_S = 900.0, 120.0


def seen(seed: int, *, defect: bool = False, again: bool = False) -> np.ndarray:
    """Draws a part as the camera sees it; `again` is another exposure of the same one."""
    image = draw_part(seed, defect=defect, size=SIZE).astype(np.float32)
    if again:
        image += np.random.RandomState(seed).normal(0, 2.0, image.shape)
    return np.clip(image, 0, 255).astype(np.uint8)


class Line:
    """A station whose camera sees what a test puts before it, and its page.

    Args:
        folder: Holds all its files.
        station: Running, without any model.
        browser: On the page Teach.
    """

    def __init__(self, folder: Path, station: RunningStation, browser: Browser) -> None:
        self.folder, self.station, self.browser = folder, station, browser
        self._shown = 0

    def show(self, image: np.ndarray) -> None:
        """Puts a part before the camera; returns once there is a verdict on it."""
        before = self.last().get("id")
        self._shown += 1
        path = self.folder / f"part-{self._shown:04d}.png"
        assert cv2.imwrite(str(path), image)
        path.rename(self.folder / "seen" / path.name)
        self.station.wait(lambda: self.last().get("id", before) != before, what="the verdict")

    def last(self) -> dict[str, Any]:
        """Returns the last verdict; empty before the first."""
        wait_for(lambda: self.station.camera("top"), SOON_S)
        return self.station.camera("top").get("last") or {}

    def model_file(self, model: str) -> Path:
        """Returns the file of a model in the store."""
        return self.folder / "models" / NAME / "files" / f"{model}.onnx"

    def model(self) -> str:
        """Returns the hash of the model that judges."""
        found: str = self.station.camera("top")["model"]["hash"]
        return found


@pytest.fixture
def line(tmp_path: Path) -> Iterator[Line]:
    (tmp_path / "seen").mkdir()
    tables = f'[camera.top]\nsource = "{tmp_path / "seen"}"\n[evidence]\nmin_free_bytes = 0\n'
    model = f'store = "{NAME}"\nbackend = "onnxruntime-cpu"\nthreads = 1'
    environment = {"DIFFERNET_MODELS": str(tmp_path / "models"), "OMP_NUM_THREADS": "1"}
    station = RunningStation(tmp_path, tables, model=model, environment=environment)
    with chromium(tmp_path / "profile", events=True) as browser, station:
        station.wait(lambda: station.camera("top"), what="the camera")
        ours = Line(tmp_path, station, browser)
        ours.show(seen(900))
        browser.look(1440, 900, "light")
        browser.go(f"http://127.0.0.1:{station.port}/")
        wait_for(lambda: has(browser, 'a[href="/teach"]'), SOON_S)
        enter(browser, 'a[href="/teach"]')
        yield ours
        browser.go("about:blank")


def begin(line: Line) -> None:
    """Begins to teach a part, all of the picture."""
    browser = line.browser
    wait_for(lambda: browser.run("return document.getElementById('live').naturalWidth") > 0, SOON_S)
    tab_to(browser, "#name")
    press(browser, *NAME)
    press(browser, ENTER)
    wait_for(lambda: focus(browser) == "collecting", SOON_S)


def collect(line: Line) -> None:
    """Shows 40 parts, 12 of them once more."""
    browser = line.browser
    press(browser, SPACE)
    says(browser, "#collecting", "Collecting")
    for seed in range(DIFFERENT):
        line.show(seen(seed))
        if seed % 2 and seed < 2 * REPEATS:
            line.show(seen(seed, again=True))
    says(browser, "#collected", str(DIFFERENT))
    says(browser, "#counts", f"{REPEATS} repeats not counted")
    assert browser.text("#counter").split() == f"{DIFFERENT} of 40 different parts".split()
    press(browser, SPACE)
    wait_for(lambda: browser.text("#collecting") == "Collect", SOON_S)
    enter(browser, "#take")
    says(browser, "#collect-said", "Not taken")
    assert browser.run("return document.querySelectorAll('#pictures .cell').length") == DIFFERENT


def upload(line: Line, file: Path) -> None:
    """Brings a model that was trained elsewhere."""
    browser = line.browser
    if not has(browser, "#elsewhere[open]"):
        enter(browser, "#elsewhere summary")
    choose_file(browser, "#file", file)
    enter(browser, "#send")
    says(browser, "#upload-said", f"{file.name} is in the station's model store")


def train(line: Line) -> None:
    """Trains on the station, and opens the report."""
    browser = line.browser
    enter(browser, "#train")
    says(browser, "#progress", "%")
    wait_for(lambda: has(browser, "#step-result[data-state=done]")
             or not has(browser, "#train-trouble[hidden]"), TRAINED_S)  # fmt: skip
    assert browser.text("#train-trouble") == ""
    enter(browser, "#report")
    wait_for(lambda: len(browser.tabs()) == 2, SOON_S)
    with browser.other_tab():
        wait_for(lambda: len(browser.text("body")) > 200, SOON_S)
    says(browser, "#figures", NAME)


def use(line: Line) -> None:
    """Has the new model judge the camera."""
    browser = line.browser
    enter(browser, "#use")
    agree(browser)
    wait_for(lambda: has(browser, "#step-use[data-state=done]"), JUDGES_S)
    assert browser.text("#use-text").endswith("judges camera top.")


def agree(browser: Browser) -> None:
    """Says yes to a question."""
    wait_for(lambda: has(browser, "#confirm[open]"), SOON_S)
    enter(browser, "#confirm-yes")


def recalibrated(line: Line) -> Path:
    """Writes the model that judges with a lower threshold, as one that was trained elsewhere."""
    fresh = line.folder / "fresh"
    fresh.mkdir()
    for seed in range(500, 560):
        assert cv2.imwrite(str(fresh / f"{seed}.png"), seen(seed))
    path = line.folder / "stricter.onnx"
    command = [DIFFERNET, "calibrate", str(line.model_file(line.model())), "--images", str(fresh)]
    more = ["--false-reject-rate", "0.3", "--output", str(path), "--force", "--doubtful", "keep",
            "--backend", "onnxruntime-cpu"]  # fmt: skip
    done = subprocess.run([*command, *more], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return path


def try_beside(line: Line, between: np.ndarray) -> None:
    """Tries the new model until the two have differed on a part that only it rejects."""
    browser, shown = line.browser, seen(901)
    enter(browser, "#try")
    says(browser, "#step-try .step-state", "running")
    wait_for(lambda: trial(line).get("state") == "running", JUDGES_S)
    for image in (shown, between):
        judged = trial(line)["judged"]
        line.show(image)
        wait_for(lambda judged=judged: trial(line)["judged"] > judged, SOON_S)
    says(browser, "#differ", "defect")
    loaded = "return document.querySelector('#differ img').naturalWidth"
    wait_for(lambda: browser.run(loaded) == SIZE, SOON_S)


def correct(line: Line, false_reject: np.ndarray) -> None:
    """Rejects a defect and a good part; says which is which, takes a threshold, and undoes it."""
    browser, station = line.browser, line.station
    before = station.camera("top")["threshold"]
    enter(browser, "#watch")
    thumbs = "return document.querySelectorAll('#evidence .thumb').length"
    opened = False
    for image, button in (
        (seen(902, defect=True), "#label-defect"),
        (false_reject, "#label-good"),
    ):
        kept = len(station.get("/api/evidence")[1]["entries"])
        line.show(image)
        wait_for(lambda kept=kept: browser.run(thumbs) > kept, SOON_S)
        newest = station.get("/api/evidence")[1]["entries"][0]
        assert newest["verdict"] == "DEFECT"
        enter(browser, "#evidence .thumb:first-child", back=opened)
        wait_for(lambda: has(browser, "#picture[open]"), SOON_S)
        enter(browser, button)
        says(browser, "#label-said", "Labelled")
        press(browser, ESCAPE)
        wait_for(lambda: not has(browser, "#picture[open]"), SOON_S)
        opened = True
    slide(line)
    enter(browser, "#use-threshold")
    agree(browser)
    wait_for(lambda: station.camera("top")["threshold"] > before, SOON_S)
    line.show(false_reject)
    assert line.last()["verdict"] == "GOOD"
    wait_for(lambda: has(browser, "#labels .undo"), SOON_S)
    enter(browser, "#labels .undo")
    wait_for(lambda: station.camera("top")["threshold"] == before, SOON_S)
    wait_for(lambda: focus(browser) == "threshold", SOON_S)  # where Undo is gone


def slide(line: Line) -> None:
    """Moves the slider to a threshold by which no label is wrong."""
    browser = line.browser
    points = line.station.get("/api/cameras/top/labels")[1]["points"]
    right = [not point["false_rejects"] and not point["misses"] for point in points].index(True)
    shown = "return Number(document.getElementById('threshold')?.max)"
    wait_for(lambda: browser.run(shown) == len(points) - 1, SOON_S)
    tab_to(browser, "#threshold")
    at = "return Number(document.getElementById('threshold').value)"
    for _ in points:
        if (by := right - browser.run(at)) != 0:
            press(browser, RIGHT if by > 0 else LEFT)
    assert browser.run(at) == right


def between(first: Path, second: Path) -> np.ndarray:
    """Returns a good part that the second model rejects, and the first does not."""
    with Detector(first) as mild, Detector(second) as strict:
        for seed in range(600, 900):
            image = seen(seed)
            if strict(image).verdict is Verdict.DEFECT and mild(image).verdict is Verdict.GOOD:
                return image
    raise AssertionError("no good part has a score between the two thresholds")


def trial(line: Line) -> dict[str, Any]:
    """Returns what is known of the model on trial."""
    found: dict[str, Any] = line.station.get("/api/cameras/top/shadow")[1]
    return found


def walk(line: Line) -> None:
    """What follows the first model, on a station that has none yet."""
    browser = line.browser
    says(browser, "#try-text", "No model judges camera top yet")
    use(line)
    line.show(seen(903))
    assert line.last()["score"] is not None
    first, second = line.model_file(line.model()), recalibrated(line)
    rejected = between(first, second)
    upload(line, second)
    try_beside(line, rejected)
    use(line)
    correct(line, rejected)
    missing = [one for one in browser.complaints() if "live.jpg" not in one]
    assert missing == []  # a camera that begins anew has no picture for a moment


def test_a_part_is_taught_with_a_model_from_elsewhere(line: Line, exported: Path) -> None:
    begin(line)
    collect(line)
    upload(line, exported)
    walk(line)


@pytest.mark.slow
def test_a_part_is_taught_and_trained_on_the_station(line: Line) -> None:
    begin(line)
    collect(line)
    train(line)
    walk(line)
