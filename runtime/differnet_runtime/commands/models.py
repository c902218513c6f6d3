"""`differnet models`: the models on this device, and which of them is active.

Imported on every start of `differnet`, so the model store is imported when the command runs.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ..command import Command, print_result, warn
from ..text import table
from .arguments import add_backend, add_json, any_folder, any_path, note, text

if TYPE_CHECKING:
    from ..models.store import ModelStore, StoredModel


_HASH_DIGITS = 16


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `differnet models`."""
    parser.description = (
        "Lists the models on this device, adds one, switches to one, goes back to the previous "
        "one, or keeps a note on one. A model judges only once it has scored its golden frames "
        "correctly in a process of its own; where TensorRT runs it, its engine is built first, "
        "which may take minutes. A running station switches without missing a frame: the old "
        "model judges until then."
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    listed = _action(actions, "list", "show all models")
    listed.add_argument(
        "--config",
        type=any_path,
        metavar="FILE",
        help="also show which cameras of this station each model judges",
    )
    add = _action(actions, "add", "copy a model file into the store")
    add.add_argument("file", type=any_path, metavar="FILE", help="the exported part.onnx")
    add.add_argument("--name", type=text, help="the part's name, if not the one in the file")
    activate = _action(actions, "activate", "switch to a model")
    activate.add_argument("model", type=text, metavar="MODEL", help="name (its newest), or hash")
    add_backend(activate)
    noting = _action(actions, "note", "write a note on a model, shown in the list and on the page")
    noting.add_argument("model", type=text, metavar="MODEL", help="name (its newest), or hash")
    noting.add_argument(
        "text", type=note, metavar="TEXT", help="the note; an empty text removes it"
    )
    rollback = _action(actions, "rollback", "go back to the previous model")
    rollback.add_argument(
        "name", type=text, nargs="?", metavar="NAME", help="needed if there are several"
    )


def _action(
    actions: argparse._SubParsersAction[argparse.ArgumentParser], name: str, summary: str
) -> argparse.ArgumentParser:
    parser = actions.add_parser(name, help=summary, description=f"Will {summary}.")
    parser.add_argument(
        "--store",
        type=any_folder,
        metavar="DIR",
        help="the store (DIFFERNET_MODELS, or /var/lib/differnet/models)",
    )
    add_json(parser)
    return parser


def run(arguments: argparse.Namespace) -> int:
    """Runs `differnet models`."""
    from ..inference.process import check_model
    from ..models.store import ModelStore, default_folder

    check = check_model
    if arguments.action == "activate":
        check = partial(check_model, backend=arguments.backend, threads=arguments.threads)
    store = ModelStore(arguments.store or default_folder(), check)
    if arguments.action == "list":
        _list(store, _cameras(arguments.config, store), as_json=arguments.json)
        return 0
    changes: dict[str, Callable[[], StoredModel]] = {
        "add": lambda: store.add(arguments.file, arguments.name),
        "activate": lambda: store.activate(arguments.model),
        "note": lambda: store.note(arguments.model, arguments.text),
        "rollback": lambda: store.rollback(arguments.name, reason="asked for by command"),
    }
    model = changes[arguments.action]()
    done = {
        "add": "is in the store",
        "activate": "judges",
        "rollback": "judges again",
        "note": "has a note" if model.note else "has no note",
    }[arguments.action]
    text = f"{model.name} {model.hash[:_HASH_DIGITS]} {done}; {_signed(model)}."
    print_result(model, text, as_json=arguments.json)
    if arguments.action == "add" and model.caution:
        warn(model.caution)
    return 0


def _cameras(config: Path | None, store: ModelStore) -> dict[Path, list[str]]:
    """Returns a station's cameras by the stored model file that judges them."""
    if config is None:
        return {}
    from ..config import load_config, planned_models

    return {
        path: list(planned.cameras)
        for planned in planned_models(load_config(config).config)
        if planned.config.store and (path := store.active(planned.config.store)) is not None
    }


def _list(store: ModelStore, cameras: dict[Path, list[str]], *, as_json: bool) -> None:
    named = [(one, cameras.get(one.path, [])) for one in store.list()]
    none = f"No models in {store.root}. Add one with `differnet models add part.onnx`."
    print_result(
        [one.model_dump(mode="json") | {"cameras": judged} for one, judged in named],
        table([_row(one, judged) for one, judged in named], least=(8,)) or none,
        as_json=as_json,
    )


def _row(model: StoredModel, cameras: list[str]) -> tuple[str, ...]:
    threshold = "none" if model.threshold is None else f"{model.threshold:.4g}"
    about = model.damaged or f"{model.precision}, threshold {threshold}, {_signed(model)}"
    if model.trained:
        about += f"; trained {model.trained[:10]} on {model.parts or 'unknown'} parts"
    about += f"; judges {', '.join(cameras)}" if cameras else ""
    about += f"; note: {' / '.join(model.note.splitlines())}" if model.note else ""
    about += f"; LOOK: {model.caution}" if model.caution else ""
    return (
        "active" if model.active else "previous" if model.previous else "",
        model.name,
        model.hash[:_HASH_DIGITS],
        f"{model.bytes / 1e6:.1f} MB",
        model.added[:19],
        about,
    )


def _signed(model: StoredModel) -> str:
    return model.signature or "its signature can't be read"


COMMAND = Command(
    "models",
    "list, add, activate and roll back the models on this device",
    configure,
    run,
    extra="opencv-headless,onnx-cpu",
    modules=("cv2",),
)
