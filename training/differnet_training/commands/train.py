"""`differnet train`: trains a calibrated model on images of good parts."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from differnet_runtime.command import Command, print_json, step
from differnet_runtime.commands.arguments import (
    Number,
    WholeNumber,
    add_json,
    completed,
    count,
    existing_file,
    new_folder,
    pattern,
    region,
    seed,
    share,
    text,
    threads,
)
from differnet_runtime.text import coloured

if TYPE_CHECKING:
    from differnet_runtime.model_file.contract import Tiles

    from ..datasets import ClassNames
    from ..recipes import Recipe

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
"""Settings without effect on heads, which have their own."""

_ONE_FLOW = frozenset(("tap", "pooling", "rotation", "score"))
"""Settings that describe one flow on the extractor's features, in place of heads."""


def _configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data",
        type=text,
        required=True,
        help="folder of good pictures, good/ beside folders of defects, MVTec AD layout, or "
        "elpv:mono|poly|both",
    )
    add_class_names(parser)
    parser.add_argument(
        "-o", "--output", type=new_folder, required=True, help="folder of the model"
    )
    recipe = parser.add_argument(
        "--recipe",
        type=text,
        default="edge",
        help="edge (default), edge-global, paper-lite or paper",
    )
    completed(recipe, _recipes)
    parser.add_argument("--false-reject-rate", type=share, default=0.05, metavar="RATE")
    parser.add_argument("--seed", type=seed, default=0)
    parser.add_argument(
        "--roi", type=region, metavar="X,Y,W,H", help="region of interest (capture's by default)"
    )
    parser.add_argument("--fit", choices=("stretch", "letterbox", "crop"), help="default stretch")
    parser.add_argument(
        "--size",
        type=parse_size,
        metavar="HEIGHTxWIDTH",
        help="of the input, in pixels; by default the pictures' aspect at about 256 x 256 pixels",
    )
    parser.add_argument(
        "--tiles",
        type=parse_tiles,
        metavar="ROWSxCOLUMNS",
        help="for large pictures: an input of so many tiles, each of about 256 x 256 pixels",
    )
    parser.add_argument(
        "--groups",
        type=pattern,
        metavar="PATTERN",
        help="regular expression for a picture's path: what it matches names the part, and "
        "pictures of one part are never on both sides of a fold",
    )
    parser.add_argument(
        "--calibration",
        choices=("folds", "split"),
        default="folds",
        help="folds (default): every picture trains and calibrates, the rate is estimated; split: "
        "a fifth calibrates alone, the rate is promised",
    )
    parser.add_argument(
        "--doubtful",
        choices=("stop", "drop", "keep"),
        default="drop",
        help="what to do with good pictures that are blurred, lie beside another of the same name "
        "or look like no other: they are named and left out (drop, the default), stop, or keep",
    )
    parser.add_argument(
        "--no-detection-limits",
        action="store_true",
        help="do not paint defects on good pictures to find out which sizes are found",
    )
    parser.add_argument(
        "--white-level",
        type=WholeNumber(255, 65535),
        default=65535,
        help="of 16-bit pictures (65535)",
    )
    parser.add_argument(
        "--weights", type=existing_file, help="extractor weights file (no download)"
    )
    parser.add_argument("--skip-unreadable", action="store_true", help="go on without them")
    parser.add_argument("--cache", type=new_folder, help="folder of the feature cache")
    parser.add_argument("--no-cache", action="store_true", help="compute every feature afresh")
    parser.add_argument("--overwrite", action="store_true", help="replace a finished model")
    parser.add_argument("--threads", type=threads, help="CPU threads of torch")
    add_json(parser, "the model's metadata")
    group = parser.add_argument_group("settings of the recipe, one by one")
    for name, (kind, metavar) in OVERRIDES.items():
        group.add_argument(f"--{name.replace('_', '-')}", type=kind, metavar=metavar)
    group.add_argument(
        "--tap",
        type=_tap,
        metavar="BLOCK[,BLOCK...]",
        help="the extractor's blocks that are pooled",
    )
    group.add_argument(
        "--pooling",
        type=_pooling,
        metavar="global|N",
        help="average the whole picture, or each of N x N windows",
    )
    group.add_argument("--rotation", choices=("none", "right-angles", "random", "random-fresh"))
    group.add_argument("--score", choices=("z2", "likelihood"))


def _recipes() -> list[str]:
    from ..recipes import RECIPES

    return list(RECIPES)


@step("training")
def _run(args: argparse.Namespace) -> int:
    import torch

    from differnet_runtime.inspection.calibration import describe
    from differnet_runtime.model_file.detection_limits import said, warning

    from ..api import train
    from ..report import LOOK_HTML

    if args.threads:
        torch.set_num_threads(args.threads)
    metadata = train(
        args.data,
        args.output,
        class_names=class_names(args),
        recipe=_recipe_of(args),
        false_reject_rate=args.false_reject_rate,
        seed=args.seed,
        size=args.size,
        tiles=args.tiles,
        region=args.roi,
        fit=args.fit,
        white_level=args.white_level,
        groups=args.groups,
        calibration=args.calibration,
        weights=args.weights,
        skip_unreadable=args.skip_unreadable,
        cache=args.cache,
        use_cache=not args.no_cache,
        overwrite=args.overwrite,
        detection_limits=not args.no_detection_limits,
        doubtful=args.doubtful,
    )
    if args.json:
        print_json(metadata)
        return 0
    assert metadata.calibration is not None
    print(describe(metadata.calibration))
    print(f"Good pictures to look at: {args.output / LOOK_HTML}\nModel: {args.output}")
    limits = metadata.detection_limits
    if limits is not None:
        refused = warning(limits) or ""
        print(said(limits).removesuffix(refused) + coloured(refused, "bad", sys.stdout))
    if limits is None or limits.usable:
        print(f"Next: differnet export {args.output} -o part.onnx")
    return 0


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
    """Parses the name of one folder."""
    if not text or text in (".", "..") or set(text) & {"/", "\\", "\0"}:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not the name of a folder; the folder that holds it is --data"
        )
    return text


def _tap(text: str) -> int | tuple[int, ...]:
    """Parses BLOCK or BLOCK,BLOCK,... ."""
    taps = tuple(WholeNumber(0, 1000)(part) for part in text.split(","))
    return taps[0] if len(taps) == 1 else taps


def _pooling(text: str) -> str | int:
    """Parses `global` or a number of windows, 2 to 64."""
    return text if text == "global" else WholeNumber(2, 64)(text)


def parse_size(text: str) -> tuple[int, int]:
    """Parses `HEIGHTxWIDTH`, or one number for a square."""
    parts = text.lower().split("x")
    if len(parts) not in (1, 2) or not all(part.strip().isdigit() for part in parts):
        raise argparse.ArgumentTypeError(
            f"--size takes HEIGHTxWIDTH in pixels (640x256), or one number for a square; "
            f"received {text!r}"
        )
    return int(parts[0]), int(parts[-1])


def parse_tiles(text: str) -> Tiles:
    """Parses `ROWSxCOLUMNS`, at most 16 x 16; the tiles overlap by 64 pixels."""
    from differnet_runtime.model_file.contract import Tiles

    try:
        rows, columns = (int(part) for part in text.lower().split("x"))
        return Tiles(rows=rows, columns=columns, overlap=64)
    except ValueError as error:
        raise argparse.ArgumentTypeError(
            f"--tiles takes ROWSxCOLUMNS, 1x1 to 16x16 (2x3); received {text!r}"
        ) from error


def _check(args: argparse.Namespace) -> None:
    """Refuses what can't be trained, before an image is read.

    Raises:
        TrainingError: Names the option.
    """
    from differnet_runtime.errors import TrainingError

    from ..model import MODEL_JSON
    from ..recipes import find_recipe

    if (args.output / MODEL_JSON).exists() and not args.overwrite:
        raise TrainingError(
            f"--output {args.output} already holds a finished model. Train into another folder, or "
            "replace it: --overwrite."
        )
    recipe = _recipe_of(args)
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


def _recipe_of(args: argparse.Namespace) -> Recipe:
    """Returns the recipe, changed by the options that were given.

    Raises:
        TrainingError: There is no such recipe, or it can't have these settings.
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


COMMAND = Command(
    name="train",
    summary="learn a model from pictures of good parts",
    configure=_configure,
    run=_run,
    extra="train",
    modules=("torch", "torchvision", "timm", "sklearn", "safetensors", "jinja2"),
    check=_check,
)
