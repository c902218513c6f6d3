"""`differnet train`: good pictures to a calibrated model."""

from __future__ import annotations

import argparse
import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from differnet_runtime.command import Command
from differnet_runtime.commands.arguments import region

if TYPE_CHECKING:
    from differnet_runtime.metadata import InputContract, Tiles

    from ..datasets import DataSet
    from ..recipes import Recipe

_log = logging.getLogger(__name__)

_OVERRIDES: dict[str, type] = {
    "extractor": str,
    "draws": int,
    "test_views": int,
    "blocks": int,
    "width": int,
    "clamp": float,
    "dropout": float,
    "noise": float,
    "epochs": int,
    "patience": int,
    "learning_rate": float,
}
_OF_ONE_FLOW = {"draws", "test_views", "blocks", "width", "clamp", "dropout", "patience"}
"""Settings that have no say where heads have their own."""

_ONE_FLOW = frozenset(("tap", "pooling", "rotation", "score"))
"""Settings that describe one flow on the extractor's features, in place of heads."""


def _configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data",
        required=True,
        help="folder of good pictures, MVTec AD layout, or elpv:mono|poly|both",
    )
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder of the model")
    parser.add_argument(
        "--recipe", default="edge", help="edge (default), edge-global, paper-lite or paper"
    )
    parser.add_argument("--false-reject-rate", type=float, default=0.05, metavar="RATE")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--roi", type=region, metavar="X,Y,W,H", help="region of interest (capture's by default)"
    )
    parser.add_argument("--fit", choices=("stretch", "letterbox", "crop"), help="default stretch")
    parser.add_argument(
        "--size",
        metavar="HEIGHTxWIDTH",
        help="of the input, in pixels; by default the pictures' aspect at about 256 x 256 pixels",
    )
    parser.add_argument(
        "--tiles",
        metavar="ROWSxCOLUMNS",
        help="for large pictures: an input of so many tiles, each of about 256 x 256 pixels",
    )
    parser.add_argument(
        "--groups",
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
    parser.add_argument("--white-level", type=int, default=65535, help="of 16-bit pictures (65535)")
    parser.add_argument("--weights", type=Path, help="extractor weights file (no download)")
    parser.add_argument("--skip-unreadable", action="store_true", help="go on without them")
    parser.add_argument("--cache", type=Path, help="folder of the feature cache")
    parser.add_argument("--no-cache", action="store_true", help="compute every feature afresh")
    parser.add_argument("--overwrite", action="store_true", help="replace a finished model")
    parser.add_argument("--threads", type=int, help="CPU threads of torch")
    parser.add_argument("--json", action="store_true", help="print the model's metadata as JSON")
    group = parser.add_argument_group("settings of the recipe, one by one")
    for name, kind in _OVERRIDES.items():
        group.add_argument(f"--{name.replace('_', '-')}", type=kind, metavar=kind.__name__.upper())
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


def _tap(text: str) -> int | tuple[int, ...]:
    taps = tuple(int(part) for part in text.split(","))
    return taps[0] if len(taps) == 1 else taps


def _pooling(text: str) -> str | int:
    return text if text == "global" else int(text)


def _run(args: argparse.Namespace) -> int:
    import torch

    from differnet_runtime.calibration import describe
    from differnet_runtime.errors import TrainingError

    from ..datasets import open_data
    from ..feature_cache import default_cache_folder
    from ..folds import part_names
    from ..geometry import parse_size, parse_tiles
    from ..learning import Job, learn
    from ..look_report import LOOK_HTML
    from ..model_directory import MODEL_JSON

    if (args.output / MODEL_JSON).exists() and not args.overwrite:
        raise TrainingError(
            f"{args.output} already holds a finished model. Train into another folder, or replace "
            "it: --overwrite."
        )
    if args.threads:
        torch.set_num_threads(args.threads)
    recipe = _recipe(args)
    size = parse_size(args.size) if args.size else None
    tiles = parse_tiles(args.tiles) if args.tiles else None
    data = open_data(args.data, args.seed)
    part_names(data.good, args.groups)  # a bad pattern is refused before a picture is read
    metadata = learn(
        Job(
            data=data,
            recipe=recipe,
            contract=_contract(args, recipe, data, size, tiles),
            output=args.output,
            cache=None if args.no_cache else args.cache or default_cache_folder(),
            seed=args.seed,
            false_reject_rate=args.false_reject_rate,
            weights=args.weights,
            skip_unreadable=args.skip_unreadable,
            groups=args.groups,
            calibration=args.calibration,
            doubtful=args.doubtful,
        )
    )
    if args.json:
        print(json.dumps(metadata.model_dump(mode="json"), indent=2))
        return 0
    assert metadata.calibration is not None
    print(describe(metadata.calibration))
    print(f"Good pictures to look at: {args.output / LOOK_HTML}")
    print(f"Model: {args.output}\nNext: differnet export {args.output} -o part.onnx")
    return 0


def _recipe(args: argparse.Namespace) -> Recipe:
    from pydantic import ValidationError

    from differnet_runtime.errors import TrainingError

    from ..recipes import RECIPES

    if args.recipe not in RECIPES:
        raise TrainingError(f"there is no recipe {args.recipe!r}; choose {', '.join(RECIPES)}")
    names = (*_OVERRIDES, "tap", "pooling", "rotation", "score")
    changes = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    recipe = RECIPES[args.recipe]
    changes = {name: value for name, value in changes.items() if value != getattr(recipe, name)}
    if not changes:
        return recipe
    if recipe.heads and changes.keys() & _ONE_FLOW:
        _log.warning("one flow in place of heads, with the other settings of edge-global")
        one_flow = {"name": recipe.name, "rotation": "none"}
        recipe = RECIPES["edge-global"].model_copy(update=one_flow)
    if recipe.heads and "extractor" in changes:
        recipe = recipe.on(changes["extractor"])
    elif "extractor" in changes:
        changes.setdefault("tap", None)
    if recipe.heads and (idle := sorted(changes.keys() & _OF_ONE_FLOW)):
        raise TrainingError(
            f"--{idle[0].replace('_', '-')} has no say in the recipe {recipe.name!r}, whose heads "
            "have settings of their own. Leave it out, or take a recipe with one flow "
            "(--recipe edge-global)."
        )
    try:
        name = f"{recipe.name} changed"
        return type(recipe).model_validate({**dict(recipe), **changes, "name": name})
    except ValidationError as error:
        first = error.errors()[0]
        option = str(first["loc"][0]).replace("_", "-")
        raise TrainingError(f"--{option} {first['input']}: {first['msg']}") from error


def _contract(
    args: argparse.Namespace,
    recipe: Recipe,
    data: DataSet,
    size: tuple[int, int] | None,
    tiles: Tiles | None,
) -> InputContract:
    from differnet_runtime.capture_record import read_capture

    from ..geometry import choose_contract

    folder = Path(args.data)
    captured = read_capture(folder) if folder.is_dir() else None
    return choose_contract(
        recipe,
        data.good,
        size=size,
        tiles=tiles,
        region=args.roi or (captured.roi if captured else None),
        fit=args.fit or (captured.fit if captured else "stretch"),
        white_level=args.white_level,
    )


COMMAND = Command(
    name="train",
    summary="learn a model from pictures of good parts",
    configure=_configure,
    run=_run,
    extra="train",
    modules=("torch", "torchvision", "timm", "sklearn", "safetensors"),
)
