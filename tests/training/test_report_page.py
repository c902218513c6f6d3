"""The report in a real Chromium: the slider says what the JSON says, and everything fits."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from differnet_runtime.inspection.operating_points import Costs
from differnet_training.evaluation import evaluate
from differnet_training.report import write_report
from tests.runtime.waiting import wait_for
from tests.runtime.web.browser import Browser, chromium

COSTS = Costs(miss=50, reject=1, defect_share=0.02)


@pytest.fixture(scope="module")
def folder(headed, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report with misses and false rejects, masks and heatmaps."""
    folder = tmp_path_factory.mktemp("report")
    first = evaluate(headed.folder, headed.data, cache=headed.cache)
    scores = sorted(result.score for result in first.results)
    report = evaluate(
        headed.folder, headed.data, cache=headed.cache, costs=COSTS, threshold=scores[9]
    )
    assert report.miss is not None
    assert report.false_reject is not None
    assert report.miss.count
    assert report.false_reject.count
    write_report(report, folder)
    return folder


@pytest.fixture(scope="module")
def written(folder: Path) -> dict:
    return json.loads((folder / "report.json").read_text())


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture
def page(browser: Browser, folder: Path) -> Iterator[Browser]:
    """The page; no error may stand in its console in the end."""
    browser.look(1440, 900, "light")
    browser.complaints()
    browser.go(f"file://{folder / 'report.html'}")
    yield browser
    assert browser.complaints() == []


def move(page: Browser, position: int) -> dict[str, str]:
    """Moves the slider as the keys do; returns what the page says there."""
    return page.run(f"""
        const slider = document.querySelector(".slider");
        slider.value = {position};
        slider.dispatchEvent(new Event("input", {{bubbles: true}}));
        const names = ["at", "false-rejects", "missed", "good-good", "good-rejected",
                       "defect-good", "defect-rejected", "cost"];
        return Object.fromEntries(names.map(
            (name) => [name, document.querySelector("#threshold ." + name).textContent]));
    """)


def said(written: dict, point: dict) -> dict[str, str]:
    """What the page must say at a point of the JSON."""
    good, defect = written["good"], written["defect"]
    rejects, misses = point["false_rejects"], point["misses"]
    return {
        "false-rejects": f"{rejects} of {good} = {100 * rejects / good:.1f}%",
        "missed": f"{misses} of {defect} = {100 * misses / defect:.1f}%",
        "good-good": str(good - rejects),
        "good-rejected": str(rejects),
        "defect-good": str(misses),
        "defect-rejected": str(defect - misses),
    }


def test_the_slider_says_what_the_json_says(page: Browser, written: dict) -> None:
    points = written["operating_points"]
    assert page.run("return +document.querySelector('.slider').max") == len(points) - 1
    best = written["cheapest"]
    for position, point in enumerate(points):
        found = move(page, position)
        assert said(written, point).items() <= found.items()
        in_use = point["threshold"] == written["threshold"]
        shown = float(f"{point['threshold']:.6g}") if in_use else point["threshold"]
        assert float(found["at"]) == shown
        cost, least = (float(f"{value:.4g}") for value in (point["cost"], best["cost"]))
        assert found["cost"].startswith(f"1,000 parts cost {cost:g} at this threshold")
        assert f"the least is {least:g} at {best['threshold']:g}." in found["cost"]


def test_it_begins_at_the_threshold_in_use_and_goes_to_the_cheapest(
    page: Browser, written: dict
) -> None:
    points = written["operating_points"]
    start = page.run("return +document.querySelector('.slider').value")
    assert points[start]["threshold"] == written["threshold"]
    page.click("#threshold button.cheapest")
    position = page.run("return +document.querySelector('.slider').value")
    assert points[position]["cost"] == written["cheapest"]["cost"]
    page.click("#threshold button.reset")
    assert page.run("return +document.querySelector('.slider').value") == start


def test_the_arrow_keys_move_it_by_one(page: Browser) -> None:
    start = page.run("return +document.querySelector('.slider').value")
    page.write("#threshold .slider", "\ue014")
    assert page.run("return +document.querySelector('.slider').value") == start + 1


def test_a_cost_that_is_left_out_takes_the_figures_away(page: Browser) -> None:
    page.run("""
        const field = document.querySelector(".costs [name=miss]");
        field.value = "";
        field.dispatchEvent(new Event("input", {bubbles: true}));
    """)
    assert page.run("return document.querySelector('button.cheapest').hidden")
    assert "Fill in both costs" in page.text("#threshold .cost")


def test_the_table_is_of_the_json(page: Browser, written: dict) -> None:
    cells = page.run("""
        return [...document.querySelectorAll(".points tr")].slice(1).map(
            (row) => [...row.cells].map((cell) => cell.innerText))
    """)
    by_counts = {
        (said(written, p)["false-rejects"], said(written, p)["missed"]): p
        for p in written["operating_points"]
    }
    assert len(cells) >= 4
    for _, rejects, misses, cost in cells:
        assert float(cost) == float(f"{by_counts[rejects, misses]['cost']:.4g}")


@pytest.mark.parametrize("width", [1440, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_wider_than_the_screen(page: Browser, width: int, scheme: str) -> None:
    page.look(width, 844, scheme)
    assert page.run("return document.documentElement.scrollWidth") <= width
    page.click(".view")
    box = page.run("return document.querySelector('.viewer').getBoundingClientRect().toJSON()")
    assert box["left"] >= 0
    assert box["right"] <= width
    assert box["height"] <= 844
    page.click(".viewer .close")


def test_a_click_shows_a_picture_at_full_size_and_the_keys_the_next(
    page: Browser, written: dict
) -> None:
    wrong = written["miss"]["count"] + written["false_reject"]["count"]
    assert page.run("return document.querySelectorAll('.verdicts .view').length") == wrong
    before = page.run("return document.querySelector('.view img').getBoundingClientRect().width")
    page.click(".view")
    wait_for(lambda: page.run("return document.querySelector('.viewer').open"))
    after = page.run("return document.querySelector('.stage img').getBoundingClientRect().width")
    assert after > 2 * before
    first = page.text(".viewer .says")
    page.write(".viewer", "\ue014")
    assert page.text(".viewer .says") != first
    assert page.run("return document.querySelector('.stage .heat') !== null")
    page.click(".viewer [name=heat]")
    hidden = "return getComputedStyle(document.querySelector('.stage .heat')).display"
    assert page.run(hidden) == "none"
    page.click(".viewer .close")
