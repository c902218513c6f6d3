"""`differnet train`: good pictures to a calibrated model."""

from __future__ import annotations

import argparse
import json
import sys

from differnet_runtime.command import Command, completed, step
from differnet_runtime.commands.arguments import (
    WholeNumber,
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

from .train_options import (
    OVERRIDES,
    add_class_names,
    check,
    class_names,
    pooling,
    recipe_of,
    size,
    tap,
    tiles,
)


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
        type=size,
        metavar="HEIGHTxWIDTH",
        help="of the input, in pixels; by default the pictures' aspect at about 256 x 256 pixels",
    )
    parser.add_argument(
        "--tiles",
        type=tiles,
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
    parser.add_argument("--json", action="store_true", help="print the model's metadata as JSON")
    group = parser.add_argument_group("settings of the recipe, one by one")
    for name, (kind, metavar) in OVERRIDES.items():
        group.add_argument(f"--{name.replace('_', '-')}", type=kind, metavar=metavar)
    group.add_argument(
        "--tap",
        type=tap,
        metavar="BLOCK[,BLOCK...]",
        help="the extractor's blocks that are pooled",
    )
    group.add_argument(
        "--pooling",
        type=pooling,
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
        recipe=recipe_of(args),
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
        print(json.dumps(metadata.model_dump(mode="json"), indent=2))
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


COMMAND = Command(
    name="train",
    summary="learn a model from pictures of good parts",
    configure=_configure,
    run=_run,
    extra="train",
    modules=("torch", "torchvision", "timm", "sklearn", "safetensors", "jinja2"),
    check=check,
)
