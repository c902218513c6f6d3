"""The device's models: one judges, the one before can come back, and no damaged one gets there."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from differnet_runtime.cli import main
from differnet_runtime.errors import ModelFileError, ModelStoreError, OutputError
from differnet_runtime.model_file.file import content_hash
from differnet_runtime.models.store import ModelStore

Make = Callable[..., Path]


def passes(path: Path) -> None:
    """Stands where a process would be started; other tests start it."""


def history(store: ModelStore) -> list[dict[str, str]]:
    """Returns what was done with the only model's name."""
    [path] = store.root.glob("*/history.jsonl")
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "store", check=passes)


def test_the_first_model_is_added_and_then_judges(store: ModelStore, sound_model: Make) -> None:
    file = sound_model()
    added = store.add(file)
    assert (added.name, added.active) == ("washer", False)
    assert added.path.read_bytes() == file.read_bytes()
    assert added.hash == content_hash(file.read_bytes())
    assert store.active("washer") is None
    assert store.activate("washer").active
    assert store.active("washer") == added.path


def test_a_rollback_goes_back_once(store: ModelStore, sound_model: Make) -> None:
    first = store.add(sound_model("1.onnx", factor=1.0))
    second = store.add(sound_model("2.onnx", factor=2.0))
    store.activate(first.hash[:8])
    store.activate(second.hash)
    assert [(one.hash, one.active, one.previous) for one in store.list()] == [
        (first.hash, False, True),
        (second.hash, True, False),
    ]
    assert store.rollback(reason="it rejected everything").hash == first.hash
    with pytest.raises(ModelStoreError, match="no previous model"):
        store.rollback()
    assert store.active("washer") == first.path
    assert [(change["action"], change["hash"]) for change in history(store)] == [
        ("add", first.hash),
        ("add", second.hash),
        ("activate", first.hash),
        ("activate", second.hash),
        ("rollback", first.hash),
    ]
    assert history(store)[-1]["reason"] == "it rejected everything"


def test_activating_the_active_one_keeps_the_way_back(store: ModelStore, sound_model: Make) -> None:
    first = store.add(sound_model("1.onnx"))
    second = store.add(sound_model("2.onnx", factor=2.0))
    store.activate(first.hash)
    store.activate(second.hash)
    store.activate(second.hash)
    assert store.rollback().hash == first.hash


def test_a_model_that_does_not_pass_is_not_activated(tmp_path: Path, sound_model: Make) -> None:
    store = ModelStore(tmp_path / "store")
    good = store.add(sound_model("good.onnx"))
    store.activate(good.hash)
    wrong = store.add(sound_model("wrong.onnx", factor=2.0, golden=1.0))
    with pytest.raises(ModelStoreError, match="golden frames"):
        store.activate(wrong.hash)
    assert store.active("washer") == good.path
    assert history(store)[-1]["action"] == "add"


def test_damaged_files_are_listed_and_refused(store: ModelStore, sound_model: Make) -> None:
    first = store.add(sound_model("1.onnx"))
    second = store.add(sound_model("2.onnx", factor=2.0))
    store.activate(first.hash)
    store.activate(second.hash)
    whole = first.path.read_bytes()
    first.path.write_bytes(whole[:-1])
    with pytest.raises(ModelStoreError, match="nothing was changed"):
        store.rollback()
    first.path.write_bytes(second.path.read_bytes())
    with pytest.raises(ModelStoreError, match="not the model that its name says"):
        store.activate(first.hash)
    assert [bool(one.damaged) for one in store.list() if one.hash == first.hash] == [True]
    assert store.active("washer") == second.path
    with pytest.raises(ModelFileError):
        store.add(first.path.with_name("absent.onnx"))


def test_adding_it_again_repairs_it(store: ModelStore, sound_model: Make) -> None:
    file = sound_model()
    stored = store.add(file)
    stored.path.write_bytes(b"")
    assert store.add(file).damaged is None


def test_a_torn_line_of_history_stays_apart(store: ModelStore, sound_model: Make) -> None:
    store.add(sound_model())
    with (store.root / "washer" / "history.jsonl").open("ab") as file:
        file.write(b'{"at": "20')
    store.activate("washer")
    torn = store.root / "washer" / "history.jsonl"
    torn.write_bytes(torn.read_bytes().replace(b'{"at": "20\n', b""))
    assert [change["action"] for change in history(store)] == ["add", "activate"]


@pytest.mark.parametrize("name", ["../x", "", "A", "a/b", "a" * 65])
def test_a_name_that_is_no_folders_is_refused(
    name: str, store: ModelStore, sound_model: Make
) -> None:
    with pytest.raises(ModelStoreError, match="--name"):
        store.add(sound_model(), name)


@pytest.mark.parametrize("model", ["nobody", "abc", "", "0" * 64])
def test_what_is_not_there_is_named(model: str, store: ModelStore, sound_model: Make) -> None:
    store.add(sound_model())
    with pytest.raises(ModelStoreError, match="names no model"):
        store.activate(model)


def test_a_mistyped_name_gets_a_suggestion_and_leaves_nothing(
    store: ModelStore, sound_model: Make
) -> None:
    name = store.add(sound_model()).name
    mistyped = name[:-1] + "x"
    with pytest.raises(ModelStoreError, match=rf"'{mistyped}' .*; did you mean {name}\?"):
        store.activate(mistyped)
    with pytest.raises(ModelStoreError, match=rf"no model '{mistyped}' .*; did you mean {name}\?"):
        store.rollback(mistyped)
    assert [path.name for path in store.root.iterdir()] == [name]


def test_a_store_that_can_not_be_written(sound_model: Make) -> None:
    with pytest.raises(OutputError, match="/dev/null"):
        ModelStore(Path("/dev/null/store")).add(sound_model())


def test_the_command_adds_activates_lists_and_rolls_back(
    sound_model: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = ["--store", str(tmp_path / "store")]
    for name, factor in (("1.onnx", 1.0), ("2.onnx", 2.0)):
        assert main(["models", "add", str(sound_model(name, factor=factor)), *store]) == 0
        assert main(["models", "activate", "washer", *store]) == 0
    assert "washer" in capsys.readouterr().out
    assert main(["models", "rollback", *store, "--json"]) == 0
    back = json.loads(capsys.readouterr().out)
    assert back["active"]
    assert main(["models", "list", *store]) == 0
    assert "active    washer" in capsys.readouterr().out
    assert main(["models", "list", *store, "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [one["hash"] for one in listed if one["active"]] == [back["hash"]]
    assert main(["models", "rollback", *store]) == 2
    assert "no previous model" in capsys.readouterr().err
    assert main(["models", "activate", "other", *store]) == 2
