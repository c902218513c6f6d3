"""What people are told of a model: its card, a note, and that it may be of another part."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from differnet_runtime.cli import main
from differnet_runtime.errors import ModelStoreError
from differnet_runtime.model_file.contract import InputContract, PictureSizes, Region
from differnet_runtime.model_file.detection_limits import DetectionLimit, DetectionLimits, brief
from differnet_runtime.model_file.file import write_model_file
from differnet_runtime.model_file.metadata import Appearance, ModelMetadata, packed_hashes
from differnet_runtime.models.cards import caution
from differnet_runtime.models.store import ModelStore
from tests.runtime.conftest import brightness_graph

Make = Callable[..., Path]


def nothing(_: Path) -> None:
    """These models are not checked."""


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "store", nothing)


def limits(*, usable: bool = True, **sizes: int | None) -> DetectionLimits:
    found = tuple(
        DetectionLimit(kind=kind, contrast=40, size=size, picture_size=size, painted=20)  # type: ignore[arg-type]
        for kind, size in sizes.items()
    )
    return DetectionLimits(
        threshold=1.0, share=0.9, judged_by="fold", pictures=20, picture_scale=1.0, largest=64,
        sensible=26, limits=found, usable=usable,
    )  # fmt: skip


def test_a_detection_limit_fits_on_one_line() -> None:
    said = brief(limits(dark_spot=6, scratch=12, stain=None))
    assert said == (
        "dark spot from 6 px at contrast 40, scratch from 12 px at contrast 40, stain not found"
    )
    assert brief(limits(usable=False, dark_spot=60)).startswith("finds no painted defect")


def test_a_card_says_when_and_on_what_a_model_was_trained(
    store: ModelStore, tiny_model: Make
) -> None:
    stored = store.add(tiny_model(detection_limits=limits(scratch=9)), "cell")
    assert (stored.name, stored.own_name, stored.parts) == ("cell", "washer", 40)
    assert stored.trained == "2025-01-02T03:04:05+00:00"
    assert stored.detection_limit == "scratch from 9 px at contrast 40"
    assert stored.note is None
    stored.path.chmod(0o644)
    stored.path.write_bytes(b"no model")
    (damaged,) = store.list()
    assert (damaged.own_name, damaged.trained, damaged.parts) == (None, None, None)


def test_a_note_is_kept_beside_the_model_and_can_be_removed(
    store: ModelStore, tiny_model: Make
) -> None:
    stored = store.add(tiny_model())
    before = stored.path.read_bytes()
    assert store.note(stored.hash[:8], "after the new lamp\nby Kim").note == (
        "after the new lamp\nby Kim"
    )
    assert store.list()[0].note == "after the new lamp\nby Kim"
    assert stored.path.read_bytes() == before
    assert store.note(stored.hash, "  ").note is None
    for wrong in ("x" * 1001, "\x1b[31m"):
        with pytest.raises(ModelStoreError, match="the note can't be kept"):
            store.note(stored.hash, wrong)
    with pytest.raises(ModelStoreError, match="names no model"):
        store.note("0" * 64, "text")


def test_the_command_writes_and_lists_notes(
    store: ModelStore, tiny_model: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    stored = store.add(tiny_model())
    at = ["--store", str(store.root)]
    assert main(["models", "note", stored.hash[:8], "for the new lamp", *at]) == 0
    assert "has a note" in capsys.readouterr().out
    assert main(["models", "list", *at]) == 0
    shown = capsys.readouterr().out
    assert "trained 2025-01-02 on 40 parts; note: for the new lamp" in shown
    assert main(["models", "list", "--json", *at]) == 0
    assert json.loads(capsys.readouterr().out)[0]["note"] == "for the new lamp"
    assert main(["models", "note", "washer", "", *at]) == 0
    assert "has no note" in capsys.readouterr().out
    assert main(["models", "note", "nobody", "text", *at]) != 0


def test_a_model_of_another_part_is_warned_of(
    store: ModelStore, metadata: ModelMetadata, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def model(name: str) -> Path:
        path = tmp_path / f"{name}.onnx"
        graph = brightness_graph(32).SerializeToString()
        write_model_file(path, graph, metadata.replaced(name=name))
        return path

    store.add(model("tile"), "tile")
    store.activate("tile")
    at = ["--name", "tile", "--store", str(store.root)]
    other = model("board")
    assert main(["models", "add", str(other), *at]) == 0
    said = capsys.readouterr().err
    assert said.startswith("warning: it may be for another part: ")
    assert "its own name is 'board', that of the active model 'tile'" in said
    assert [model.caution is not None for model in store.list()] == [
        not model.active for model in store.list()
    ]
    again = model("tile-2")
    assert main(["models", "add", str(again), *at]) == 0
    assert capsys.readouterr().err == ""


def sizes(*of: tuple[int, int]) -> PictureSizes:
    return PictureSizes.of(of)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({}, None),
        ({"name": "washer_v3"}, None),
        ({"name": "nut"}, "its own name is 'nut'"),
        ({"picture_sizes": sizes((640, 480), (800, 600))}, None),
        ({"picture_sizes": sizes((1280, 960))}, "its pictures have the size 1280 x 960"),
        (
            {"picture_sizes": sizes(*((100 + k, 300 + k) for k in range(9)))},
            "its pictures have the size 100 to 108 x 300 to 308 (sizes vary)",
        ),
        (
            {"input": InputContract(size=32, region=Region(x=400, y=0, width=200, height=200))},
            "it judges the region 400,0,200,200 of a frame, the active model 0,0,300,300",
        ),
        ({"input": InputContract(size=32, region=Region(x=9, y=0, width=200, height=200))}, None),
        (
            {"appearance": Appearance(darkest=10, brightest=40, softest=1.0, images=9)},
            "its good pictures are darker",
        ),
    ],
)
def test_what_is_known_of_two_models_is_compared(
    changes: dict[str, object], says: str | None, metadata: ModelMetadata
) -> None:
    region = Region(x=0, y=0, width=300, height=300)
    present = metadata.replaced(
        picture_sizes=sizes((640, 480)),
        input=InputContract(size=32, region=region),
        appearance=Appearance(darkest=90, brightest=120, softest=1.0, images=9),
    )
    said = caution(present.replaced(**changes), present)
    assert (said is None) if says is None else (said is not None and says in said)
    shared = metadata.provenance.model_copy(update={"pictures": packed_hashes(["ab" * 32])})
    new = present.replaced(provenance=shared, **changes)
    told = caution(new, present.replaced(provenance=shared))
    assert told is None, "what learned from the same pictures is of the same part"
