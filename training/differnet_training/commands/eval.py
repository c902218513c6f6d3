"""`differnet eval`: what a model is worth on labelled pictures."""

from __future__ import annotations

import argparse
from pathlib import Path

from differnet_runtime.command import Command


def _configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, help="folder that train wrote")
    parser.add_argument(
        "--data", required=True, help="MVTec AD layout, good/ and DEFECT/ folders, or elpv:mono"
    )
    parser.add_argument("--output", type=Path, default=Path("runs/eval"), help="default runs/eval")
    parser.add_argument("--onnx", type=Path, help="let this exported file score the pictures")
    parser.add_argument("--seeds", type=int, default=1, help="refit the flow with so many seeds")
    parser.add_argument(
        "--heatmaps",
        action="store_true",
        help="draw where defects are, and judge it where there are masks (seconds a picture "
        "for a model without windows)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of ELPV's split, as in training")
    parser.add_argument("--cache", type=Path, help="folder of the feature cache")
    parser.add_argument("--skip-unreadable", action="store_true", help="go on without them")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")


def _run(args: argparse.Namespace) -> int:
    from ..api import evaluate
    from ..report import summary_table

    report = evaluate(
        args.model,
        args.data,
        output=args.output,
        onnx=args.onnx,
        seeds=args.seeds,
        heatmaps=args.heatmaps,
        seed=args.seed,
        cache=args.cache,
        skip_unreadable=args.skip_unreadable,
    )
    if args.json:
        print(report.model_dump_json(indent=1))
    else:
        print(f"{summary_table(report)}\n\n{report.earns_its_place}")
        print(f"Report: {args.output / 'report.html'}")
    return 0


COMMAND = Command(
    name="eval",
    summary="judge a model by labelled pictures, with a report",
    configure=_configure,
    run=_run,
    extra="train",
    modules=("torch", "torchvision", "timm", "sklearn", "safetensors", "matplotlib", "jinja2"),
)
