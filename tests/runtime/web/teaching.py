"""The page Teach of a fake station, with data sets that tests change as its cameras would."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import pytest

from differnet_runtime.config.models import WebConfig
from differnet_runtime.teaching.dataset import Dataset
from differnet_runtime.teaching.files import encoded
from differnet_runtime.teaching.records import AddedModel, CollectedPicture
from differnet_runtime.web.server import WebServer
from tests.drawn import draw_part
from tests.fakes.station import HASHES, FakeStation
from tests.fakes.teaching import FakeSite, HeldTrainer
from tests.runtime.waiting import wait_for
from tests.runtime.web.browser import Browser
from tests.runtime.web.looking import SOON_S, says

GOAL = 40
MODEL = HASHES[1]
"""What a training makes: the model of `FakeStation` that does not judge yet."""


class Taught(NamedTuple):
    """The page, and what is behind it.

    Args:
        browser: Shows the page.
        station: Of two cameras.
        trainer: Of its trainings.
        address: Of the page.
    """

    browser: Browser
    station: FakeStation
    trainer: HeldTrainer
    address: str


@pytest.fixture
def teachable(running: FakeStation) -> FakeStation:
    """A station whose trainings run until a test ends them."""
    running.site = FakeSite(running.folder, running.seen, live=False, goal=GOAL)
    running.trainer = HeldTrainer()
    return running


@pytest.fixture
def taught(browser: Browser, teachable: FakeStation) -> Iterator[Taught]:
    """The page with nothing taught yet; no error may stand in its console in the end."""
    server = WebServer(WebConfig(port=0), teachable, teachable.registry)
    server.start()
    browser.look(1440, 900, "light")
    browser.complaints()
    address = server.url.rstrip("/") + "/teach"
    browser.go(address)
    wait_for(lambda: shown_picture(browser), SOON_S)
    trainer = teachable.trainer
    assert isinstance(trainer, HeldTrainer)
    yield Taught(browser, teachable, trainer, address)
    browser.go("about:blank")
    server.stop()
    assert [one for one in browser.complaints() if "409" not in one] == []  # a refusal, told there


def shown_picture(browser: Browser) -> bool:
    found: bool = browser.run("return document.getElementById('live').naturalWidth > 0")
    return found


def open_part(taught: Taught, parts: int, **more: Any) -> Dataset:
    """Opens a data set that has some parts already, and other values of its record."""
    browser, station, _, address = taught
    station.teaching.create("cover", "left", None)
    dataset = station.teaching.find("cover")
    collect(dataset, *[None] * parts)
    dataset.change(**more)
    browser.go("about:blank")
    browser.go(f"{address}#part=cover")
    says(browser, "#collected", str(parts))
    return dataset


def collect(dataset: Dataset, *causes: str | None) -> None:
    """Adds a different part for each cause, which says why it is strange; None where it isn't."""
    with dataset.lock:
        record, pictures = dataset.record, []
        begun = datetime.fromisoformat(record.created) - timedelta(hours=1)
        for number, cause in enumerate(causes, record.next):
            time = (begun + timedelta(seconds=number)).isoformat()
            image = draw_part(1000 + number, defect=cause is not None, size=64)
            dataset.files.write_picture(f"{number:06d}", encoded(image))
            pictures.append(CollectedPicture(id=f"{number:06d}", time=time, learned=cause))
        dataset.change(
            frame_size=(64, 64),
            pictures=(*record.pictures, *pictures),
            parts=record.parts + len(pictures),
            next=record.next + len(pictures),
        )


def train(taught: Taught, dataset: Dataset) -> None:
    """Lets a training end with a report and a model."""
    dataset.files.report.write_text("<h1>Report</h1>", encoding="utf-8")
    limit = "scratch from 9 px at contrast 40"
    model = AddedModel(
        id=MODEL, name=dataset.record.name, detection_limit=limit, threshold=1.42, parts=GOAL
    )
    dataset.change(model=model)
    taught.trainer.end("done")


def training(taught: Taught) -> str | None:
    """Returns how the last training of the data set stands."""
    found = taught.station.teaching.dataset("cover").training
    return found.state if found else None


def begin_training(taught: Taught) -> None:
    """Presses Train, and waits until the training runs."""
    taught.browser.click("#train")
    wait_for(lambda: training(taught) == "running", SOON_S)
