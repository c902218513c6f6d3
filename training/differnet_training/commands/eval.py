"""`differnet eval`: judges a model by labelled images."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from differnet_runtime.command import Command, step
from differnet_runtime.commands.arguments import (
    Number,
    WholeNumber,
    any_path,
    existing_file,
    finite,
    new_folder,
    seed,
    share,
    text,
)

from .train import add_class_names, class_names

if TYPE_CHECKING:
    from differnet_runtime.inspection.operating_points import Costs


_SEEDS = WholeNumber(1, 1000)
_COST = Number(0.0, 1e12, "a cost")


def _configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=any_path, help="folder that train wrote")
    parser.add_argument(
        "--data",
        type=text,
        required=True,
        help="good/ beside folders of defects, good pictures alone, MVTec AD layout, or elpv:mono",
    )
    add_class_names(parser)
    parser.add_argument("--output", type=new_folder, default="runs/eval", help="default runs/eval")
    parser.add_argument(
        "--threshold", type=finite, metavar="X", help="judge with this one instead of the model's"
    )
    group = parser.add_argument_group("costs, to find the cheapest threshold")
    group.add_argument("--cost-miss", type=_COST, metavar="COST", help="of a miss, in any unit")
    group.add_argument("--cost-reject", type=_COST, metavar="COST", help="of a false reject")
    group.add_argument(
        "--defect-share",
        type=share,
        metavar="SHARE",
        help="of defective parts among all, assumed (default 0.01)",
    )
    parser.add_argument(
        "--onnx", type=existing_file, help="let this exported file score the pictures"
    )
    parser.add_argument(
        "--seeds", type=_SEEDS, default=1, help="refit the flow with this many seeds"
    )
    parser.add_argument(
        "--heatmaps",
        action="store_true",
        help="draw where defects are, and judge it where there are masks (seconds a picture "
        "for a model without windows)",
    )
    parser.add_argument("--seed", type=seed, default=0, help="of ELPV's split, as in training")
    parser.add_argument("--cache", type=new_folder, help="folder of the feature cache")
    parser.add_argument("--skip-unreadable", action="store_true", help="go on without them")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")


@step("evaluation")
def _run(args: argparse.Namespace) -> int:
    from ..api import evaluate
    from ..report import summary_table

    report = evaluate(
        args.model,
        args.data,
        output=args.output,
        onnx=args.onnx,
        class_names=class_names(args),
        threshold=args.threshold,
        costs=_costs(args),
        seeds=args.seeds,
        heatmaps=args.heatmaps,
        seed=args.seed,
        cache=args.cache,
        skip_unreadable=args.skip_unreadable,
    )
    if args.json:
        print(report.model_dump_json(indent=1))
    else:
        advice = "\n".join(report.advice)
        print(f"{summary_table(report)}\n\n{advice}\nReport: {args.output / 'report.html'}")
    return 0


def _check(args: argparse.Namespace) -> None:
    """Refuses incomplete costs before the model is read."""
    _costs(args)


def _costs(args: argparse.Namespace) -> Costs | None:
    """Returns the costs that were given, or None."""
    from differnet_runtime.errors import DataError
    from differnet_runtime.inspection.operating_points import DEFECT_SHARE, Costs

    given = (args.cost_miss, args.cost_reject)
    if given == (None, None) and args.defect_share is None:
        return None
    if None in given:
        raise DataError(
            "--cost-miss and --cost-reject go together, and --defect-share needs both: give what "
            "a missed defect and a rejected good part cost, in the same unit (--cost-miss 50 "
            "--cost-reject 1)."
        )
    return Costs(
        miss=args.cost_miss,
        reject=args.cost_reject,
        defect_share=args.defect_share or DEFECT_SHARE,
    )


COMMAND = Command(
    name="eval",
    summary="judge a model by labelled pictures, with a report",
    configure=_configure,
    run=_run,
    extra="train",
    modules=("torch", "torchvision", "timm", "sklearn", "safetensors", "matplotlib", "jinja2"),
    check=_check,
)
