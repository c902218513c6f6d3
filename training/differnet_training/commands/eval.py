"""`differnet eval`: what a model is worth on labelled pictures."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from differnet_runtime.command import Command
from differnet_runtime.commands.arguments import WholeNumber, seed, text
from differnet_runtime.commands.paths import any_path, existing_file, new_folder

if TYPE_CHECKING:
    from differnet_runtime.metadata import Calibration

    from ..datasets import Picture


_SEEDS = WholeNumber(1, 1000)


def _configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=any_path, help="folder that train wrote")
    parser.add_argument(
        "--data",
        type=text,
        required=True,
        help="MVTec AD layout, good/ and DEFECT/ folders, or elpv:mono",
    )
    parser.add_argument("--output", type=new_folder, default="runs/eval", help="default runs/eval")
    parser.add_argument(
        "--onnx", type=existing_file, help="let this exported file score the pictures"
    )
    parser.add_argument("--seeds", type=_SEEDS, default=1, help="refit the flow with so many seeds")
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


def _run(args: argparse.Namespace) -> int:
    from ..datasets import open_test
    from ..evaluation import evaluate
    from ..feature_cache import default_cache_folder
    from ..report import summary_table, write_report

    data = open_test(args.data, args.seed)
    scores = latency = calibration = None
    if args.onnx is not None:
        scores, latency, calibration = _score_with_file(args.onnx, args.model, data.test)
    report = evaluate(
        args.model,
        data,
        cache=args.cache or default_cache_folder(),
        scores=scores,
        latency_ms=latency,
        scored_by=str(args.onnx) if args.onnx else "torch",
        calibration=calibration,
        seeds=args.seeds,
        heatmaps=args.output / "heatmaps" if args.heatmaps else None,
        skip_unreadable=args.skip_unreadable,
    )
    path = write_report(report, args.output)
    if args.json:
        print(report.model_dump_json(indent=1))
    else:
        print(f"{summary_table(report)}\n\n{report.earns_its_place}\nReport: {path}")
    return 0


def _score_with_file(
    file: Path, folder: Path, pictures: Sequence[Picture]
) -> tuple[dict[Path, float], list[float], Calibration | None]:
    from differnet_runtime.command import progress
    from differnet_runtime.detector import Detector
    from differnet_runtime.errors import DataError, FrameError, ImageReadError
    from differnet_runtime.images import read_image
    from differnet_runtime.preprocess import golden_frames

    from ..model_directory import load_metadata

    scores, latency = {}, []
    with Detector(file) as detector:
        if detector.metadata.weights_sha256 != load_metadata(folder).weights_sha256:
            raise DataError(
                f"{file} was not exported from {folder}: its weights have another hash. Name the "
                f"folder that it came from, or export again: differnet export {folder} -o {file}"
            )
        # The first frame is slower (memory is laid out); it would be the p99 of a small set.
        detector.score_input(golden_frames(detector.metadata.input, 1)[0])
        for picture in progress(pictures, f"scoring with {file.name}", unit="image"):
            try:
                scores[picture.path] = detector(read_image(picture.path)).value
            except (ImageReadError, FrameError):
                continue  # reading the features names it, and refuses or skips it
            latency.append(sum(detector.stages_ms.values()))
        return scores, latency, detector.metadata.calibration


COMMAND = Command(
    name="eval",
    summary="judge a model by labelled pictures, with a report",
    configure=_configure,
    run=_run,
    extra="train",
    modules=("torch", "torchvision", "timm", "sklearn", "safetensors", "matplotlib", "jinja2"),
)
