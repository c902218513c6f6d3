"""The page Teach in a real Chromium, before a station without cameras."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from differnet_runtime.config.models import WebConfig
from differnet_runtime.model_file.file import content_hash
from differnet_runtime.teaching.dataset import REPEAT
from differnet_runtime.teaching.records import DatasetView, Training, now
from differnet_runtime.web.server import WebServer
from tests.fakes.station import HASHES, FakeStation
from tests.runtime.waiting import wait_for
from tests.runtime.web.browser import Browser
from tests.runtime.web.keyboard import (
    DELETE,
    DOWN,
    ENTER,
    ESCAPE,
    RIGHT,
    SHIFT,
    SPACE,
    TAB,
    focus,
    press,
    tab_to,
)
from tests.runtime.web.looking import SOON_S, has, says
from tests.runtime.web.teaching import (
    MODEL,
    Taught,
    begin_training,
    collect,
    open_part,
    taught,
    teachable,
    train,
)

__all__ = ["taught", "teachable"]


def field(browser: Browser, name: str) -> int:
    return int(browser.run(f"return document.getElementById('region-{name}').value"))


def counted(asked: list[str], name: str, view: Callable[..., Any]) -> Callable[..., Any]:
    """Returns a method that notes each call of it."""

    def note(*args: object, **options: object) -> Any:
        asked.append(name)
        return view(*args, **options)

    return note


def test_the_keyboard_alone_draws_and_collects(taught: Taught) -> None:
    browser, teaching = taught.browser, taught.station.teaching
    tab_to(browser, "#stage")
    press(browser, RIGHT)  # draws one, in the middle
    press(browser, RIGHT)
    press(browser, SHIFT, DOWN)
    tab_to(browser, "#name")
    press(browser, *"cover")
    press(browser, ENTER)
    wait_for(lambda: focus(browser) == "collecting", SOON_S)
    size, moved = 64, 1
    region = teaching.dataset("cover").region
    assert region is not None
    assert region.model_dump() == {
        "x": size // 4 + moved, "y": size // 4, "width": size // 2, "height": size // 2 + 1,
    }  # fmt: skip
    press(browser, SPACE)
    wait_for(lambda: teaching.dataset("cover").collecting, SOON_S)
    collect(teaching.find("cover"), None, "scratch at the edge")
    says(browser, "#collected", "2")
    tab_to(browser, "#take")
    press(browser, ENTER)
    says(browser, "#collect-said", "Taken: 3")
    tab_to(browser, ".cell")
    press(browser, RIGHT)
    press(browser, DELETE)
    wait_for(lambda: not teaching.dataset("cover").pictures[1].kept, SOON_S)
    says(browser, "#counts", "1 thrown out")
    assert "scratch" in browser.run("return document.activeElement.getAttribute('aria-label')")
    press(browser, SPACE)
    wait_for(lambda: teaching.dataset("cover").pictures[1].kept, SOON_S)


def test_the_keyboard_alone_trains_tries_and_uses(taught: Taught) -> None:
    browser, station = taught.browser, taught.station
    dataset = open_part(taught, 3)
    tab_to(browser, "#train")
    press(browser, ENTER)
    wait_for(lambda: focus(browser) == "train-title", SOON_S)  # Train went; Cancel is next
    press(browser, TAB)
    assert focus(browser) == "cancel"
    train(taught, dataset)
    wait_for(lambda: focus(browser) == "train-title", SOON_S)
    tab_to(browser, "#report")
    assert browser.run("return document.activeElement.target") == "_blank"
    tab_to(browser, "#try")
    press(browser, ENTER)
    wait_for(lambda: "left" in station.shadows, SOON_S)
    says(browser, "#try", "Stop the trial")
    tab_to(browser, "#use")
    press(browser, ENTER)
    wait_for(lambda: has(browser, "#confirm[open]"), SOON_S)
    press(browser, ESCAPE)
    wait_for(lambda: not has(browser, "#confirm[open]"), SOON_S)
    assert (focus(browser), station.active) == ("use", 0)
    press(browser, ENTER)
    wait_for(lambda: has(browser, "#confirm[open]"), SOON_S)
    tab_to(browser, "#confirm-yes")
    press(browser, ENTER)
    wait_for(lambda: HASHES[station.active] == MODEL, SOON_S)
    wait_for(lambda: not has(browser, "#watch[hidden]"), SOON_S)
    assert browser.text("#use-text") == "cover judges camera left."
    wait_for(lambda: focus(browser) == "use-title", SOON_S)


def test_a_region_is_drawn_with_the_mouse_and_set_by_numbers(taught: Taught) -> None:
    browser = taught.browser
    box = browser.run("return document.getElementById('stage').getBoundingClientRect().toJSON()")

    def at(x: float, y: float) -> dict[str, Any]:
        place = {"x": round(box["x"] + x * box["width"]), "y": round(box["y"] + y * box["height"])}
        return {"type": "pointerMove", "duration": 0, **place}

    def drag(start: tuple[float, float], end: tuple[float, float]) -> None:
        down, up = {"type": "pointerDown", "button": 0}, {"type": "pointerUp", "button": 0}
        middle = ((start[0] + end[0]) / 2, (start[1] + end[1]) / 2)
        steps = [at(*start), down, at(*middle), at(*end), up]
        mouse = {"type": "pointer", "id": "mouse", "actions": steps}
        browser.call("POST", "/actions", {"actions": [mouse]})

    drag((0.25, 0.25), (0.75, 0.5))
    assert [field(browser, name) for name in ("x", "y", "width", "height")] == [16, 16, 32, 16]
    drag((0.5, 0.4), (0.5, 0.65))  # inside: it moves
    assert [field(browser, name) for name in ("x", "y", "width", "height")] == [16, 32, 32, 16]
    drag((0.75, 0.75), (0.875, 1.0))  # by its corner
    assert [field(browser, name) for name in ("width", "height")] == [40, 32]
    drag((0.1, 0.1), (0.1, 0.1))  # a click draws none
    assert field(browser, "width") == 40
    browser.run("const x = document.getElementById('region-x');"
                "x.value = 60; x.dispatchEvent(new Event('change'))")  # fmt: skip
    assert field(browser, "x") + field(browser, "width") <= 64
    browser.click("#whole")
    browser.write("#name", "cover")
    browser.click("#start")
    says(browser, "#datasets", "cover")
    assert taught.station.teaching.dataset("cover").region is None


def test_a_refusal_is_said_beside_the_button(taught: Taught) -> None:
    browser, station = taught.browser, taught.station
    station.stop()  # what the camera shows stays
    station.teaching.create("cover", "left", None)
    browser.write("#name", "cover")
    browser.click("#start")
    says(browser, "#choose-trouble", "There is a part cover already")
    wait_for(lambda: has(browser, "#datasets .open"), SOON_S)
    browser.click("#datasets .open")
    says(browser, "#goal", "of 40 different parts")
    browser.click("#take")
    says(browser, "#collect-said", "Taken: 1")
    browser.click("#take")
    says(browser, "#collect-said", f"Not taken: {REPEAT[0].upper()}{REPEAT[1:]}")
    says(browser, "#counts", "1 repeat not counted")


def test_training_shows_how_far_it_is_and_why_it_failed(taught: Taught) -> None:
    browser, _, trainer, _ = taught
    dataset = open_part(taught, 28)
    says(browser, "#train-text", "12 more different parts")
    begin_training(taught)
    assert trainer.shown is not None
    trainer.shown.done, trainer.shown.left_s = 0.42, 170.0
    says(browser, "#progress", "42 % · about 2 min left")
    browser.click("#cancel")
    says(browser, "#train-trouble", "cancelled")
    begin_training(taught)
    trainer.end("failed", "no space is left on the disk")
    says(browser, "#train-trouble", "no space is left on the disk")
    begin_training(taught)
    says(browser, "#progress-left", "0 %")
    train(taught, dataset)
    says(browser, "#figures", "scratch from 9 px")


def test_without_torch_the_model_comes_from_elsewhere(
    taught: Taught, tmp_path: Path, sound_model: Callable[..., Path]
) -> None:
    browser, station, trainer, _ = taught
    trainer.reason = "the extras train and export are not installed"
    open_part(taught, 3)
    says(browser, "#train-text", "not installed")
    assert browser.run("return document.getElementById('train').disabled")
    says(browser, "#commands", "differnet train --data cover -o cover-model")
    link = browser.run("return document.getElementById('zip').getAttribute('href')")
    assert link == "/api/teach/cover/pictures.zip"
    nothing, model = tmp_path / "nothing.onnx", sound_model("cover.onnx")
    nothing.write_bytes(b"something")
    browser.write("#file", str(nothing))
    browser.click("#send")
    says(browser, "#upload-trouble", "the uploaded file")
    browser.write("#file", str(model))
    browser.click("#send")
    says(browser, "#upload-said", "cover.onnx is in the station's model store")
    says(browser, "#figures", content_hash(model.read_bytes())[:8])
    added = station.teaching.dataset("cover").model
    assert added is not None
    assert added.id == content_hash(model.read_bytes())


def test_the_form_for_a_new_part_may_be_opened_during_an_upload(
    taught: Taught, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser, station, trainer, _ = taught
    trainer.reason = "the extras train and export are not installed"
    open_part(taught, 3)
    add, came, goes_on = station.teaching.add_model, threading.Event(), threading.Event()

    def added(name: str, path: Path) -> DatasetView:
        came.set()
        assert goes_on.wait(SOON_S)
        return add(name, path)

    monkeypatch.setattr(station.teaching, "add_model", added)
    model = tmp_path / "cover.onnx"
    model.write_bytes(b"something")
    browser.write("#file", str(model))
    browser.click("#send")
    assert came.wait(SOON_S)
    browser.click("#new")
    says(browser, "#step-choose .badge", "1")
    goes_on.set()
    refused = "return document.getElementById('upload-trouble').textContent"
    wait_for(lambda: "the uploaded file" in browser.run(refused), SOON_S)


def test_frames_on_which_the_models_differ_are_shown(taught: Taught) -> None:
    browser, station = taught.browser, taught.station
    dataset = open_part(taught, 40)
    begin_training(taught)
    train(taught, dataset)
    says(browser, "#try", "Start the trial")
    browser.click("#try")
    shadows = station.shadows
    wait_for(lambda: "left" in shadows, SOON_S)
    own = shadows["left"]
    says(browser, "#try-figures", "39 (97.5%)")
    says(browser, "#differ", "defect")
    loaded = "return document.querySelector('#differ img').naturalWidth"
    wait_for(lambda: browser.run(loaded) == station.size, SOON_S)
    browser.click("#try")
    wait_for(lambda: shadows == {}, SOON_S)
    shadows["left"] = own.model_copy(update={"model": "c" * 64})
    wait_for(lambda: browser.text("#try") == "Start the trial", SOON_S)


def test_a_camera_that_could_not_use_the_model_says_so_before_the_training(taught: Taught) -> None:
    browser, station = taught.browser, taught.station
    station.site.hindrance = "[model] names a model file"
    dataset = open_part(taught, 40)
    says(browser, "#train-obstacle", "names a model file")
    begin_training(taught)
    train(taught, dataset)
    says(browser, "#try-text", "names a model file")
    says(browser, "#use-text", "names a model file")
    for button in ("try", "use"):
        assert browser.run(f"return document.getElementById({button!r}).disabled"), button
    station.site.hindrance = None
    says(browser, "#use-text", "judges camera left")
    assert has(browser, "#train-obstacle[hidden]")


def test_a_model_of_another_part_is_used_with_a_caution_and_the_store_is_read_once(
    taught: Taught, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser, station = taught.browser, taught.station
    station.caution = "its pictures are larger"
    asked: list[str] = []
    for view in ("overview", "models"):
        monkeypatch.setattr(station, view, counted(asked, view, getattr(station, view)))
    dataset = open_part(taught, 40)
    begin_training(taught)
    train(taught, dataset)
    says(browser, "#use-text", "Caution: its pictures are larger")
    polls = asked.count("overview")
    wait_for(lambda: asked.count("overview") > polls + 2, SOON_S)
    assert asked.count("models") == 1


def test_pictures_are_listed_again_only_where_they_have_changed(
    taught: Taught, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser, station = taught.browser, taught.station
    dataset = open_part(taught, 2)
    asked: list[str] = []
    for view in ("overview", "dataset"):
        owner: Any = station.teaching if view == "dataset" else station
        monkeypatch.setattr(owner, view, counted(asked, view, getattr(owner, view)))
    wait_for(lambda: asked.count("overview") > 2, SOON_S)
    assert asked.count("dataset") == 0
    collect(dataset, "scratch at the edge")
    says(browser, "#pictures", "scratch at the edge")
    wait_for(lambda: asked.count("overview") > 5, SOON_S)
    assert asked.count("dataset") == 1
    browser.click("#new")
    wait_for(lambda: has(browser, "#chosen[hidden]"), SOON_S)
    browser.click("#datasets .open")
    says(browser, "#pictures", "scratch at the edge")


def test_a_dataset_is_deleted_after_a_yes_and_the_focus_stays_near(taught: Taught) -> None:
    browser, teaching = taught.browser, taught.station.teaching
    open_part(taught, 2)
    for answer, left in (("#confirm [value=no]", 1), ("#confirm-yes", 0)):
        browser.click("#datasets .remove")
        wait_for(lambda: has(browser, "#confirm[open]"), SOON_S)
        browser.click(answer)
        wait_for(lambda left=left: len(teaching.datasets()) == left, SOON_S)
        wait_for(lambda: not has(browser, "#confirm[open]"), SOON_S)
    wait_for(lambda: not has(browser, "#datasets .open"), SOON_S)
    assert focus(browser) == "parts-title"
    says(browser, "#step-collect", "choose a camera first")


def test_names_of_the_station_are_never_markup(taught: Taught) -> None:
    browser = taught.browser
    evil = "<img src=x onerror=\"document.title='owned'\">"
    dataset = open_part(taught, 1)
    collect(dataset, evil)
    failed = Training(state="failed", error=evil, started=now(), ended=now())
    dataset.change(training=failed)
    says(browser, "#train-trouble", "onerror")
    says(browser, "#pictures", "onerror")
    assert not has(browser, "main [onerror]")


def test_where_changes_are_switched_off_it_says_so(
    browser: Browser, teachable: FakeStation
) -> None:
    teachable.teaching.create("cover", "left", None)
    server = WebServer(WebConfig(port=0, changes=False), teachable, teachable.registry)
    server.start()
    try:
        browser.go(f"{server.url.rstrip('/')}/teach#part=cover")
        says(browser, "#banner", "switched off")
        for button in ("start", "collecting", "take", "train"):
            assert browser.run(f"return document.getElementById({button!r}).disabled"), button
    finally:
        browser.go("about:blank")
        server.stop()
