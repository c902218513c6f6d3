"""`differnet calibrate`: a new threshold for an exported model, from new good pictures."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from differnet_runtime.command import Command

from .arguments import add_backend, finite

if TYPE_CHECKING:
    from differnet_runtime.metadata import Calibration


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `differnet calibrate`."""
    parser.description = (
        "Scores pictures of good parts with the exported model, sets its threshold for the wanted "
        "false-reject rate and writes it into the model file. The pictures must be new: a picture "
        "that training saw scores too low."
    )
    parser.add_argument("model", type=Path, metavar="FILE", help="the exported part.onnx")
    parser.add_argument(
        "--images", type=Path, required=True, metavar="DIR", help="pictures of good parts only"
    )
    parser.add_argument(
        "--false-reject-rate",
        type=finite,
        metavar="RATE",
        help="share of good parts that may be rejected, on average (0.05)",
    )
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="write here, and leave the model as it is"
    )
    parser.add_argument(
        "--skip-unreadable",
        action="store_true",
        help="go on without pictures that can't be read; they are listed",
    )
    parser.add_argument("--json", action="store_true", help="print the calibration as JSON")
    add_backend(parser)


def run(arguments: argparse.Namespace) -> int:
    """Runs `differnet calibrate`."""
    from differnet_runtime.calibration import DEFAULT_FALSE_REJECT_RATE, calibrate, check_enough
    from differnet_runtime.detector import Detector
    from differnet_runtime.model_file import read_model_file, write_model_file

    from .calibrating import pictures, refuse_duplicates, score

    rate = arguments.false_reject_rate
    rate = DEFAULT_FALSE_REJECT_RATE if rate is None else rate
    data, metadata = read_model_file(arguments.model)
    paths = pictures(arguments.images)
    check_enough(len(paths), rate)
    refuse_duplicates(paths)
    with Detector(
        arguments.model, backend=arguments.backend, threads=arguments.threads
    ) as detector:
        scores = score(detector, paths, skip=arguments.skip_unreadable)
        calibration = calibrate(scores, rate, scored_by=detector.backend)
    output = arguments.output or arguments.model
    write_model_file(output, data, metadata.replaced(calibration=calibration))
    _report(calibration, output, as_json=arguments.json)
    return 0


def _report(calibration: Calibration, output: Path, *, as_json: bool) -> None:
    from differnet_runtime.calibration import describe

    if as_json:
        print(calibration.model_dump_json(indent=2))
        return
    print(describe(calibration))
    print(f"Written to {output}.")


COMMAND = Command(
    "calibrate",
    "set an exported model's threshold from new pictures of good parts",
    configure,
    run,
    extra="opencv-headless,onnx-cpu",
    modules=("cv2",),
)
