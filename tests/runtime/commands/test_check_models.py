"""What `differnet check` and `differnet models list` say of several models of a station."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from differnet_runtime.cli import main
from differnet_runtime.model_file.contract import InputContract, PictureSizes, Region
from differnet_runtime.models.store import ModelStore

Captured = pytest.CaptureFixture[str]
Write = Callable[..., Path]
REST = '[web]\nport = 0\n[evidence]\nkeep = "none"\n'


@pytest.fixture
def findings(tmp_path: Path, capsys: Captured) -> Callable[..., tuple[int, dict[str, list[str]]]]:
    def run(text: str, *options: str) -> tuple[int, dict[str, list[str]]]:
        path = tmp_path / "line.toml"
        path.write_text(f"{text}{REST}")
        path.chmod(0o640)
        code = main(["check", str(path), "--json", *options])
        found: dict[str, list[str]] = {}
        for one in json.loads(capsys.readouterr().out)["findings"]:
            found.setdefault(one["subject"], []).append(f"{one['state']}: {one['text']}")
        return code, found

    return run


def cameras(tmp_path: Path) -> str:
    own = f'path = "{tmp_path / "tile.onnx"}"\n'
    return (
        '[camera.top]\nsource = "."\n[camera.side]\nsource = "."\n'
        f'[camera.front]\nsource = "."\n[camera.front.model]\n{own}'
    )


def test_each_model_is_named_with_its_cameras_and_their_memory(
    findings: Callable[..., Any], tiny_model: Write, tmp_path: Path
) -> None:
    first = tiny_model("washer.onnx")
    tiny_model("tile.onnx", factor=2.0)
    text = f'[station]\nstate = "state"\n[model]\npath = "{first}"\nthreshold = 9\n'
    code, found = findings(text + cameras(tmp_path))
    assert code == 0
    assert "threshold 9, not signed; judges top, side" in found["model.path"][0]
    assert "threshold 118, not signed; judges front" in found["camera.front.model.path"][0]
    (memory,) = found["station.memory_mb"]
    assert memory.startswith("ok: about ")
    assert "engines washer 53 MiB, tile 53 MiB)" in memory


def test_what_needs_more_memory_than_is_allowed_can_not_start(
    findings: Callable[..., Any], tiny_model: Write, tmp_path: Path
) -> None:
    first = tiny_model("washer.onnx")
    tiny_model("tile.onnx", factor=2.0)

    def judged(limit: int) -> tuple[int, str]:
        text = f'[station]\nstate = "state"\nmemory_mb = {limit}\n[model]\npath = "{first}"\n'
        code, found = findings(text + cameras(tmp_path))
        return code, found["station.memory_mb"][0]

    code, text = judged(1000)
    needed = int(text.split("about ")[1].split(" MiB")[0])
    changing = int(text.split(" MiB while a model changes")[0].split()[-1])
    assert (code, text[:3]) == (0, "ok:")
    assert changing > needed
    code, text = judged(needed + 10)
    assert (code, text[:5]) == (0, "look:"), "there is no room for a change"
    code, text = judged(needed - 10)
    assert (code, text[:6]) == (2, "wrong:")
    assert f"{needed - 10} MiB are allowed" in text


def test_a_camera_whose_model_gives_no_threshold_is_found(
    findings: Callable[..., Any], tiny_model: Write, tmp_path: Path
) -> None:
    first = tiny_model("washer.onnx")
    tiny_model("tile.onnx", calibration=None)
    code, found = findings(f'[model]\npath = "{first}"\n{cameras(tmp_path)}')
    assert code == 2
    assert "camera.front.model.threshold" in found["camera.front.model.threshold"][0]


def test_a_default_that_no_camera_needs_is_worth_a_look(
    findings: Callable[..., Any], tiny_model: Write, tmp_path: Path
) -> None:
    text = f'[model]\npath = "{tiny_model("washer.onnx")}"\n[camera.top]\nsource = "."\n'
    tile = tiny_model("tile.onnx", factor=2.0)
    _, found = findings(f'{text}[camera.top.model]\npath = "{tile}"\n')
    assert found["model"] == ["look: not needed: each camera has its own model"]
    assert "model.path" not in found


def test_a_frame_that_the_cameras_own_model_does_not_know_is_found(
    findings: Callable[..., Any], tiny_model: Write, pictures: Write, tmp_path: Path
) -> None:
    folder = pictures(100, size=48)
    sizes = PictureSizes.of([(48, 48)])
    region = InputContract(size=32, region=Region(x=0, y=0, width=64, height=40))
    first = tiny_model("washer.onnx", picture_sizes=sizes)
    other = tiny_model("other.onnx", picture_sizes=PictureSizes.of([(640, 480)]))
    large = tiny_model("large.onnx", input=region)
    text = f'[model]\npath = "{first}"\n'
    for name, own in (("a", None), ("b", other), ("c", large)):
        text += f'[camera.{name}]\nsource = "{folder}"\nkind = "folder"\n'
        text += f'[camera.{name}.model]\npath = "{own}"\n' if own else ""
    _, found = findings(text, "--cameras", "--timeout", "30")

    def looks(camera: str) -> list[str]:
        return [text for text in found[f"camera.{camera}"] if text.startswith("look:")]

    assert looks("a") == []
    assert "knows pictures of 640 x 480, not of 48 x 48 pixels" in looks("b")[0]
    assert "can't take the frame" in looks("c")[0]


def test_the_list_of_models_shows_whom_each_judges(
    sound_model: Write, tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = ModelStore(tmp_path / "models", lambda _: None)
    for name in ("washer", "tile"):
        store.activate(store.add(sound_model(), name).name)
    path = tmp_path / "line.toml"
    path.write_text(
        '[model]\nstore = "washer"\n[camera.top]\nsource = "."\n'
        '[camera.front]\nsource = "."\n[camera.front.model]\nstore = "tile"\n'
    )
    monkeypatch.setenv("DIFFERNET_MODELS", str(store.root))
    assert main(["models", "list", "--config", str(path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("; judges ")[1] for line in lines] == ["front", "top"]
    assert main(["models", "list", "--config", str(path), "--json"]) == 0
    records = json.loads(capsys.readouterr().out)
    assert [record["cameras"] for record in records] == [["front"], ["top"]]


def test_an_empty_store_is_no_reason_not_to_start(
    findings: Callable[..., Any], tiny_model: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DIFFERNET_MODELS", str(tmp_path / "models"))
    text = '[station]\nstate = "state"\n[model]\nstore = "cell"\n[camera.top]\nsource = "."\n'
    code, found = findings(text)
    assert code == 0
    (said,) = found["model.store"]
    assert said.startswith("look: no model judges top yet: ")
    assert "has no model named 'cell'. Teach one on the page" in said
    assert found["station.memory_mb"][0].startswith("ok: about ")
    store = ModelStore(tmp_path / "models", lambda _: None)
    tile = store.add(tiny_model(), "tile")
    assert "named 'cell' (it has tile)" in findings(text)[1]["model.store"][0]
    store.add(tile.path, "cell")
    assert "named 'cell', but none of them is active" in findings(text)[1]["model.store"][0]
    store.activate("cell").path.unlink()
    store.add(tile.path, "tile")
    (tmp_path / "models" / "cell" / "files" / f"{'0' * 64}.onnx").write_bytes(b"")
    assert "but the active one is gone" in findings(text)[1]["model.store"][0]
