"""`differnet calibrate`: a new threshold for an exported model, from pictures or stored scores."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from differnet_runtime.command import Command

from .arguments import add_backend, finite

if TYPE_CHECKING:
    from differnet_runtime.metadata import Appearance, Calibration


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `differnet calibrate`."""
    parser.description = (
        "Scores pictures of good parts with the exported model (or reads the scores that it gave "
        "at the camera), sets its threshold for the wanted false-reject rate and writes it into "
        "the model file. The pictures must be new: a picture that training saw scores too low."
    )
    parser.add_argument("model", type=Path, metavar="FILE", help="the exported part.onnx")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--images", type=Path, metavar="DIR", help="pictures of good parts only")
    source.add_argument(
        "--scores",
        type=Path,
        metavar="FILE",
        help="JSON lines of verdicts on good parts only: also those that it called defects",
    )
    parser.add_argument("--camera", metavar="NAME", help="with --scores: only this camera's")
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
    parser.add_argument(
        "--doubtful",
        choices=("stop", "drop", "keep"),
        default="drop",
        help="with --images: what to do with pictures that may not be of a good part (drop)",
    )
    parser.add_argument("--json", action="store_true", help="print the calibration as JSON")
    add_backend(parser)


def run(arguments: argparse.Namespace) -> int:
    """Runs `differnet calibrate`."""
    from differnet_runtime.calibration import DEFAULT_FALSE_REJECT_RATE
    from differnet_runtime.model_file import read_model_file, write_model_file

    rate = arguments.false_reject_rate
    rate = DEFAULT_FALSE_REJECT_RATE if rate is None else rate
    data, metadata = read_model_file(arguments.model)
    appearance = metadata.appearance  # stored scores tell nothing new of it
    if arguments.scores:
        calibration = _from_scores(arguments, data, rate)
    else:
        calibration, appearance = _from_pictures(arguments, rate)
    output = arguments.output or arguments.model
    metadata = metadata.replaced(calibration=calibration, appearance=appearance)
    write_model_file(output, data, metadata)
    _report(calibration, output, as_json=arguments.json)
    return 0


def _from_pictures(arguments: argparse.Namespace, rate: float) -> tuple[Calibration, Appearance]:
    from differnet_runtime.calibration import calibrate, check_enough
    from differnet_runtime.detector import Detector

    from .calibrating import pictures, refuse_duplicates, score

    paths = pictures(arguments.images)
    check_enough(len(paths), rate)
    refuse_duplicates(paths)
    with Detector(
        arguments.model, backend=arguments.backend, threads=arguments.threads
    ) as detector:
        scores, appearance = score(
            detector, paths, skip=arguments.skip_unreadable, doubtful=arguments.doubtful
        )
        return calibrate(scores, rate, scored_by=detector.backend), appearance


def _from_scores(arguments: argparse.Namespace, model: bytes, rate: float) -> Calibration:
    from differnet_runtime.calibration import calibrate
    from differnet_runtime.model_file import content_hash

    from .stored_scores import read_scores

    scores = read_scores(arguments.scores, content_hash(model), arguments.camera)
    return calibrate(scores, rate, scored_by="stored scores")


def _report(calibration: Calibration, output: Path, *, as_json: bool) -> None:
    from differnet_runtime.calibration import describe

    if as_json:
        print(calibration.model_dump_json(indent=2))
        return
    print(describe(calibration))
    print(f"Written to {output}.")


COMMAND = Command(
    "calibrate",
    "set an exported model's threshold from new pictures of good parts, or their scores",
    configure,
    run,
    extra="opencv-headless,onnx-cpu",
    modules=("cv2",),
)
