"""The options of `differnet train` as a recipe and an input contract, checked before the work.

The options that name the folders of good and of defective parts, for train and eval.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from differnet_runtime.commands.arguments import Number, WholeNumber, count, text

if TYPE_CHECKING:
    from differnet_runtime.model_file.contract import Tiles

    from ..datasets import ClassNames
    from ..recipes import Recipe


def add_class_names(parser: argparse.ArgumentParser) -> None:
    """Adds `--good` and `--defect`."""
    parser.add_argument(
        "--good",
        type=_folder_name,
        metavar="NAME",
        help="folder of good parts in the data (default good)",
    )
    parser.add_argument(
        "--defect",
        type=_folder_name,
        nargs="+",
        default=(),
        metavar="NAME",
        help="folders of defects (by default all others that hold pictures)",
    )


def class_names(args: argparse.Namespace) -> ClassNames:
    """Returns the names that were given, or the usual ones."""
    from ..datasets import ClassNames

    return ClassNames(args.good or ClassNames.good, tuple(args.defect))


def _folder_name(text: str) -> str:
    """Reads the name of one folder."""
    if not text or text in (".", "..") or set(text) & {"/", "\\", "\0"}:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not the name of a folder; the folder that holds it is --data"
        )
    return text


T = TypeVar("T")

_log = logging.getLogger(__name__)

OVERRIDES: dict[str, tuple[Callable[[str], Any], str]] = {
    "extractor": (text, "NAME"),
    "draws": (count, "N"),
    "test_views": (count, "N"),
    "blocks": (count, "N"),
    "width": (count, "N"),
    "clamp": (Number(0.0, 100.0), "X"),
    "dropout": (Number(0.0, 1.0), "X"),
    "noise": (Number(0.0, 100.0), "X"),
    "epochs": (count, "N"),
    "patience": (count, "N"),
    "learning_rate": (Number(0.0, 1.0), "X"),
}
_OF_ONE_FLOW = {"draws", "test_views", "blocks", "width", "clamp", "dropout", "patience"}
"""Settings that have no say where heads have their own."""

_ONE_FLOW = frozenset(("tap", "pooling", "rotation", "score"))
"""Settings that describe one flow on the extractor's features, in place of heads."""


def tap(text: str) -> int | tuple[int, ...]:
    """Reads BLOCK or BLOCK,BLOCK,... ."""
    taps = tuple(WholeNumber(0, 1000)(part) for part in text.split(","))
    return taps[0] if len(taps) == 1 else taps


def pooling(text: str) -> str | int:
    """Reads `global` or a number of windows."""
    return text if text == "global" else WholeNumber(2, 64)(text)


def size(text: str) -> tuple[int, int]:
    """Reads HEIGHTxWIDTH; see `geometry.parse_size`."""
    from ..geometry import parse_size

    return _read(parse_size, text)


def tiles(text: str) -> Tiles:
    """Reads ROWSxCOLUMNS; see `geometry.parse_tiles`."""
    from ..geometry import parse_tiles

    return _read(parse_tiles, text)


def _read(parse: Callable[[str], T], text: str) -> T:
    from differnet_runtime.errors import TrainingError

    try:
        return parse(text)
    except TrainingError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def check(args: argparse.Namespace) -> None:
    """Refuses what can't be trained, before a picture is read.

    Raises:
        TrainingError: Says which option.
    """
    from differnet_runtime.errors import TrainingError

    from ..model import MODEL_JSON
    from ..recipes import find_recipe

    if (args.output / MODEL_JSON).exists() and not args.overwrite:
        raise TrainingError(
            f"--output {args.output} already holds a finished model. Train into another folder, or "
            "replace it: --overwrite."
        )
    recipe = recipe_of(args)
    if find_recipe(args.recipe).heads and not recipe.heads:
        _log.warning("one flow in place of heads, with the other settings of edge-global")
    recipe.views()
    recipe.check_tiles(args.tiles)
    _check_extractor(args, recipe)
    _check_size(args, recipe)


def _check_size(args: argparse.Namespace, recipe: Recipe) -> None:
    from differnet_runtime.errors import TrainingError

    from ..extractors import ALEXNET_SIDE
    from ..geometry import choose_contract

    if args.size is None and recipe.size is None:  # the pictures tell it
        return
    contract = choose_contract(recipe, (), size=args.size, tiles=args.tiles, region=args.roi)
    if recipe.extractor == "alexnet" and min(contract.height, contract.width) < ALEXNET_SIDE:
        raise TrainingError(
            f"--size {contract.height}x{contract.width}: alexnet needs {ALEXNET_SIDE} pixels at "
            "least, since it also reads the picture at a quarter of its size"
        )


def _check_extractor(args: argparse.Namespace, recipe: Recipe) -> None:
    from differnet_runtime.errors import TrainingError, WeightsError

    from ..extractors import check_extractor

    changed = next((name for name in ("tap", "extractor") if getattr(args, name) is not None), None)
    if changed is None:
        return
    reading = recipe.reading()
    try:
        check_extractor(reading["name"], reading["tap"])
    except WeightsError as error:
        raise TrainingError(f"--{changed}: {error}") from error


def recipe_of(args: argparse.Namespace) -> Recipe:
    """Returns the recipe with the settings that were given.

    Raises:
        TrainingError: There is no such recipe, or it can't have them.
    """
    from pydantic import ValidationError

    from differnet_runtime.errors import TrainingError

    from ..recipes import RECIPES, find_recipe

    names = (*OVERRIDES, "tap", "pooling", "rotation", "score")
    changes = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    try:
        recipe = find_recipe(args.recipe)
    except TrainingError as error:
        raise TrainingError(f"--recipe: {error}") from error
    changes = {name: value for name, value in changes.items() if value != getattr(recipe, name)}
    if not changes:
        return recipe
    if recipe.heads and changes.keys() & _ONE_FLOW:
        one_flow = {"name": recipe.name, "rotation": "none"}
        recipe = RECIPES["edge-global"].model_copy(update=one_flow)
    if recipe.heads and "extractor" in changes:
        recipe = recipe.on(changes["extractor"])
    elif "extractor" in changes:
        changes.setdefault("tap", None)
    if recipe.heads and (idle := sorted(changes.keys() & _OF_ONE_FLOW)):
        raise TrainingError(
            f"--{idle[0].replace('_', '-')} has no effect with the recipe {recipe.name!r}: its "
            "heads have their own settings. Leave it out, or use a recipe with one flow "
            "(--recipe edge-global)."
        )
    try:
        name = f"{recipe.name} changed"
        return type(recipe).model_validate({**dict(recipe), **changes, "name": name})
    except ValidationError as error:
        first = error.errors()[0]
        option = str(first["loc"][0]).replace("_", "-")
        raise TrainingError(f"--{option} {first['input']}: {first['msg']}") from error
