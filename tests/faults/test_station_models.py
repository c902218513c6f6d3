"""Models change while the station runs: by the page, by the command, and back when one is bad."""

import json
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from differnet_runtime.models.store import ModelStore
from tests.fakes.running import DIFFERNET, RunningStation
from tests.faults.test_station import write_clip


def nothing(_: Path) -> None:
    """These models are checked by the station."""


@pytest.fixture
def store(tmp_path: Path, sound_model: Callable[..., Path]) -> tuple[ModelStore, list[str]]:
    """A store with two sound models, the first active, and one that gives wrong golden scores."""
    store = ModelStore(tmp_path / "models", nothing)
    hashes = [
        store.add(sound_model("one.onnx"), "washer").hash,
        store.add(sound_model("two.onnx", factor=1.01), "washer").hash,
        store.add(sound_model("bad.onnx", golden=3.0), "washer").hash,
    ]
    store.activate(hashes[0])
    return store, hashes


@pytest.fixture
def station(tmp_path: Path, store: tuple[ModelStore, list[str]]) -> Iterator[RunningStation]:
    clip = write_clip(tmp_path / "belt.avi")
    environment = {"DIFFERNET_MODELS": str(store[0].root)}
    tables = f'[camera.top]\nsource = "{clip}"\npaced = true\n'
    model = 'store = "washer"\nbackend = "onnxruntime-cpu"\nthreads = 1'
    with RunningStation(tmp_path, tables, model=model, environment=environment) as station:
        station.wait_judging()
        yield station


def reconfigure(station: RunningStation, model: str) -> None:
    """Gives the running station another `[model]`."""
    text = station.config.read_text()
    before, rest = text.split("[model]\n", 1)
    station.config.write_text(f"{before}[model]\n{model}\n[web]{rest.split('[web]', 1)[1]}")
    station.signal(signal.SIGHUP)


def test_a_threshold_waits_for_the_model_that_it_came_with(
    station: RunningStation, store: tuple[ModelStore, list[str]], tmp_path: Path
) -> None:
    started = len(station.events("inspection"))
    reconfigure(station, f'path = "{tmp_path / "bad.onnx"}"\nthreshold = 1e9\nthreads = 1')
    station.wait(lambda: station.says("model: degraded"), what="the refusal")
    judged = len(station.events("inspection"))
    station.wait(lambda: len(station.events("inspection")) > judged + 5, what="verdicts")
    events = station.events("inspection")[started:]
    assert {event["threshold"] for event in events} == {118.0}, "the model's own"
    reconfigure(
        station, 'store = "washer"\nbackend = "onnxruntime-cpu"\nthreads = 1\nthreshold = 9'
    )
    station.wait(lambda: station.events("inspection")[-1]["threshold"] == 9.0, what="the change")


def test_a_wrong_setting_does_not_take_the_model_back(
    station: RunningStation, store: tuple[ModelStore, list[str]]
) -> None:
    kept, (_, two, _) = store
    assert station.post("/api/models/activate", {"hash": two})[0] == 200
    reconfigure(station, 'store = "washer"\nbackend = "tensorrt"\nfallback = false')
    station.wait(lambda: station.says("model: degraded"), what="the refusal")
    assert kept.active("washer") == kept.find(two).path
    reconfigure(station, 'store = "nobody"')
    station.wait(lambda: station.says("nobody"), what="the reason")
    assert judging(station) == two


def test_what_was_taken_back_can_be_activated_again(
    station: RunningStation, store: tuple[ModelStore, list[str]]
) -> None:
    kept, (one, _, bad) = store
    for _ in range(2):
        kept.activate(bad)  # this store's check lets everything pass
        station.wait(lambda: kept.active("washer") == kept.find(one).path, what="the way back")
        time.sleep(4.0)  # the station sees that all is well again
    history = (kept.root / "washer" / "history.jsonl").read_text().splitlines()[-4:]
    assert [json.loads(line)["action"] for line in history] == ["activate", "rollback"] * 2


def test_a_stop_during_a_change_undoes_no_activation(
    station: RunningStation, store: tuple[ModelStore, list[str]]
) -> None:
    kept, (_, two, _) = store
    kept.activate(two)
    time.sleep(1.2)  # the station looks once a second, and takes longer to load it
    assert station.stop() < 5.0
    assert kept.active("washer") == kept.find(two).path


def models_since(station: RunningStation, number: int) -> set[str]:
    """Returns the models that gave verdicts; for a frame without one, the reason."""
    events = station.events("inspection")[number:]
    return {event["model"]["hash"] if event["model"] else event["reason"] for event in events}


def judging(station: RunningStation) -> str:
    """Returns the hash of the model that gave the last verdict."""
    last = station.events("inspection")[-1]["model"]
    return last["hash"] if last else "none"


def test_a_model_is_activated_and_taken_back_over_http(
    station: RunningStation, store: tuple[ModelStore, list[str]]
) -> None:
    (kept, (one, two, _)) = store
    assert {model["hash"] for model in station.get("/api/models")[1]["models"]} == set(store[1])
    assert station.post("/api/models/activate", {"hash": two})[0] == 200
    station.wait(lambda: judging(station) == two, what="the new model's verdict")
    assert kept.active("washer") == kept.find(two).path
    assert station.post("/api/models/rollback", {})[0] == 200
    station.wait(lambda: judging(station) == one, what="the old model's verdict")
    assert kept.active("washer") == kept.find(one).path


def test_a_bad_model_never_judges(
    station: RunningStation, store: tuple[ModelStore, list[str]]
) -> None:
    kept, (one, _, bad) = store
    started = len(station.events("inspection"))
    status, answer = station.post("/api/models/activate", {"hash": bad})
    assert status == 409, answer
    assert kept.active("washer") == kept.find(one).path
    station.wait(lambda: len(station.events("inspection")) > started, what="a verdict")
    assert models_since(station, started) == {one}
    assert station.says("model: degraded")


def test_the_commands_activation_is_followed_and_a_bad_one_undone(
    station: RunningStation, store: tuple[ModelStore, list[str]]
) -> None:
    kept, (one, two, bad) = store
    started = len(station.events("inspection"))
    command = [DIFFERNET, "models", "activate", two, "--store", str(kept.root)]
    subprocess.run(command, check=True, capture_output=True)
    station.wait(lambda: judging(station) == two, what="the new model's verdict")
    kept.activate(bad, checked=True)  # past the check that the command makes
    station.wait(lambda: kept.active("washer") == kept.find(two).path, what="the way back")
    assert judging(station) == two
    assert models_since(station, started) == {one, two}
