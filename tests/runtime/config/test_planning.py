"""Which models a station runs, and what a camera's own model takes from `[model]`."""

from pathlib import Path

import pytest

from differnet_runtime.config import Config, PlannedModel, load_config, planned_models
from differnet_runtime.errors import ConfigError

CAMERAS = '[camera.top]\nsource = "0"\n[camera.side]\nsource = "1"\n'


def config(folder: Path, text: str) -> Config:
    path = folder / "line.toml"
    path.write_text(text)
    return load_config(path).config


def planned(folder: Path, text: str) -> list[PlannedModel]:
    return list(planned_models(config(folder, text)))


def refused(folder: Path, text: str) -> str:
    with pytest.raises(ConfigError) as raised:
        config(folder, text)
    return str(raised.value)


def test_a_station_with_one_model_has_one_engine_with_plain_names(tmp_path: Path) -> None:
    (one,) = planned(tmp_path, f'[model]\npath = "washer.onnx"\nthreshold = 3.5\n{CAMERAS}')
    assert one.name == "washer"
    assert one.cameras == ("top", "side")
    assert one.thresholds == {"top": 3.5, "side": 3.5}
    assert one.component("engine") == "engine"
    assert one.config.path == tmp_path / "washer.onnx"
    assert one.config.threshold is None


def test_cameras_that_name_the_same_model_share_an_engine(tmp_path: Path) -> None:
    one, other = planned(
        tmp_path,
        '[model]\nstore = "washer"\nthreads = 2\n'
        '[camera.a]\nsource = "0"\n[camera.a.model]\nstore = "ring"\nthreshold = 2\n'
        '[camera.b]\nsource = "1"\n'
        '[camera.c]\nsource = "2"\n[camera.c.model]\nstore = "ring"\n',
    )
    assert (one.name, one.key, one.cameras) == ("washer", "model", ("b",))
    assert (other.name, other.key, other.cameras) == ("ring", "camera.a.model", ("a", "c"))
    assert other.thresholds == {"a": 2.0, "c": None}
    assert other.component("engine") == "engine:ring"
    assert other.config.threads == 2, "what a camera's table leaves out comes from [model]"


def test_a_threshold_belongs_to_its_model(tmp_path: Path) -> None:
    own = "[camera.side.model]\n"
    text = f'[model]\npath = "a.onnx"\nthreshold = 3\n{CAMERAS}{own}'
    (one,) = planned(tmp_path, f"{text}threshold = 4\n")
    assert one.thresholds == {"top": 3.0, "side": 4.0}
    one, other = planned(tmp_path, f'{text}path = "b.onnx"\n')
    assert (one.thresholds, other.thresholds) == ({"top": 3.0}, {"side": None})


def test_a_camera_may_take_from_the_store_what_others_take_from_a_file(tmp_path: Path) -> None:
    text = f'[model]\npath = "cell.onnx"\n{CAMERAS}[camera.side.model]\nstore = "cell"\n'
    names = [one.name for one in planned(tmp_path, text)]
    assert names == ["cell", "cell-2"], "each has a name of its own"


def test_no_default_is_needed_where_every_camera_names_its_model(tmp_path: Path) -> None:
    text = (
        '[camera.top]\nsource = "0"\n[camera.top.model]\npath = "models/a b.onnx"\n'
        '[camera.side]\nsource = "1"\n[camera.side.model]\nbackend = "fake:5ms"\n'
    )
    found = planned(tmp_path, text)
    assert [one.component("model") for one in found] == ["model:a_b", "model:fake"]
    assert found[0].config.path == tmp_path / "models" / "a b.onnx"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (CAMERAS, "top has no model: give path (a model file) or store (a name in the store) in"),
        (f'[model]\npath = "a.onnx"\n{CAMERAS}[camera.side.model]\npath = "b"\nstore = "c"\n',
         "side.model: give either path (a model file) or store"),
        (f'[model]\nbackend = "fake"\n{CAMERAS}[camera.side.model]\npath = "b.onnx"\n',
         "side.model: the fake backend runs no model"),
        (f'[model]\npath = "a.onnx"\n{CAMERAS}[camera.side.model]\ndeadline_ms = 50\n',
         "top and side use the same model, which runs in one engine: give both the same"),
        (f'[model]\npath = "a.onnx"\n{CAMERAS}[camera.side.model]\ntreshold = 1\n',
         "camera.side.model.treshold: unknown key; did you mean threshold?"),
        (f'[model]\npath = "a.onnx"\n{CAMERAS}[camera.side.model]\npath = ""\n',
         "camera.side.model.path: is empty; expected a path"),
        (f'[model]\npath = "a.onnx"\nmax_batch = 0\n{CAMERAS}', "model.max_batch: received 0"),
    ],
)  # fmt: skip
def test_what_contradicts_itself_is_refused(text: str, says: str, tmp_path: Path) -> None:
    assert says in refused(tmp_path, text)
