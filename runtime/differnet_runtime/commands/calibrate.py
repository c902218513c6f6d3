"""`differnet calibrate`: a new threshold for an exported model, from pictures or stored scores.

Imported on every start of `differnet`, so the work (`calibrating`) is imported when it runs.
"""

from __future__ import annotations

import argparse

from ..command import Command
from ..errors import ConfigError
from ..files import try_file
from .arguments import (
    add_backend,
    add_json,
    add_model,
    add_output,
    existing_file,
    existing_folder,
    share,
    text,
)


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `differnet calibrate`."""
    parser.description = (
        "Scores pictures of good parts with the exported model (or reads the scores that it gave "
        "at the camera), sets its threshold for the wanted false-reject rate and writes it into "
        "the model file. The pictures must be new: those that the model was trained on score too "
        "low, and are left out."
    )
    add_model(parser)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--images", type=existing_folder, metavar="DIR", help="pictures of good parts only"
    )
    source.add_argument(
        "--scores",
        type=existing_file,
        metavar="FILE",
        help="JSON lines of verdicts, or a station's database; parts that passed or are labelled "
        "good are taken",
    )
    parser.add_argument(
        "--camera",
        type=text,
        metavar="NAME",
        help="with --scores: the camera whose verdicts count, if there are several",
    )
    parser.add_argument(
        "--false-reject-rate",
        type=share,
        metavar="RATE",
        help="share of good parts that may be rejected, on average (0.05)",
    )
    add_output(parser)
    parser.add_argument(
        "--force",
        action="store_true",
        help="go on even if more pictures are above the present threshold than chance explains",
    )
    parser.add_argument(
        "--skip-unreadable",
        action="store_true",
        help="go on without pictures that can't be read; they are listed",
    )
    parser.add_argument(
        "--doubtful",
        choices=("stop", "drop", "keep"),
        help="with --images: what to do with pictures that may not be of a good part (drop)",
    )
    add_json(parser, "the calibration")
    add_backend(parser)


def _check(arguments: argparse.Namespace) -> None:
    """Refuses options that don't go together, before the model is read."""
    if arguments.camera is not None and arguments.scores is None:
        raise ConfigError("--camera goes with --scores: pictures (--images) name no camera")
    of_images = {
        "--skip-unreadable": arguments.skip_unreadable,
        "--doubtful": arguments.doubtful is not None,
        "--backend": arguments.backend != "auto",
        "--threads": arguments.threads != 0,
    }
    given = [option for option, is_given in of_images.items() if is_given]
    if arguments.scores is not None and given:
        raise ConfigError(f"{given[0]} goes with --images: stored scores are not measured again")
    if arguments.output is None:
        try_file(arguments.model)


def run(arguments: argparse.Namespace) -> int:
    """Runs `differnet calibrate`."""
    from .calibrating import recalibrate

    recalibrate(arguments)
    return 0


COMMAND = Command(
    "calibrate",
    "set an exported model's threshold from new pictures of good parts, or their scores",
    configure,
    run,
    extra="opencv-headless,onnx-cpu",
    modules=("cv2",),
    check=_check,
)
