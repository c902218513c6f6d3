"""`differnet calibrate`: a new threshold for an exported model, from pictures or stored scores."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ..command import Command
from .arguments import add_backend, any_path, existing_file, existing_folder, new_file, share, text

if TYPE_CHECKING:
    from ..model_file.metadata import Calibration, ModelMetadata


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `differnet calibrate`."""
    parser.description = (
        "Scores pictures of good parts with the exported model (or reads the scores that it gave "
        "at the camera), sets its threshold for the wanted false-reject rate and writes it into "
        "the model file. The pictures must be new: those that the model was trained on score too "
        "low, and are left out."
    )
    parser.add_argument("model", type=any_path, metavar="FILE", help="the exported part.onnx")
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
    parser.add_argument(
        "--output", type=new_file, metavar="FILE", help="write here, and leave the model as it is"
    )
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
    parser.add_argument("--json", action="store_true", help="print the calibration as JSON")
    add_backend(parser)


def _check(arguments: argparse.Namespace) -> None:
    """Refuses what can't be calibrated, before the model is read."""
    from ..errors import ConfigError
    from ..files import try_file

    if arguments.camera is not None and arguments.scores is None:
        raise ConfigError("--camera goes with --scores: pictures (--images) name no camera")
    if arguments.scores is not None and (idle := _of_images(arguments)):
        raise ConfigError(f"{idle[0]} goes with --images: stored scores are not measured again")
    if arguments.output is None:
        try_file(arguments.model)


def _of_images(arguments: argparse.Namespace) -> list[str]:
    """Returns the options given that concern pictures only."""
    given = {
        "--skip-unreadable": arguments.skip_unreadable,
        "--doubtful": arguments.doubtful is not None,
        "--backend": arguments.backend != "auto",
        "--threads": arguments.threads != 0,
    }
    return [name for name, there in given.items() if there]


def run(arguments: argparse.Namespace) -> int:
    """Runs `differnet calibrate`."""
    from ..inspection.calibration import DEFAULT_FALSE_REJECT_RATE
    from ..model_file.file import read_model_file, signature, write_model_file

    rate = arguments.false_reject_rate
    rate = DEFAULT_FALSE_REJECT_RATE if rate is None else rate
    data, metadata = read_model_file(arguments.model)
    change = _from_scores if arguments.scores else _from_pictures
    metadata = change(arguments, data, metadata, rate)
    output = arguments.output or arguments.model
    write_model_file(output, data, metadata)
    assert metadata.calibration is not None
    _report(metadata.calibration, output, as_json=arguments.json)
    if signature(data) is not None:
        print(f"{output} is no longer signed: `differnet sign` signs it again", file=sys.stderr)
    return 0


def _from_pictures(
    arguments: argparse.Namespace, _model: bytes, metadata: ModelMetadata, rate: float
) -> ModelMetadata:
    """Returns the metadata with threshold, look and sizes of new pictures."""
    from ..detector import Detector
    from ..inspection.calibration import calibrate, check_enough
    from .calibrating import check_share, new_pictures, pictures, score

    paths = pictures(arguments.images)
    check_enough(len(paths), rate)
    paths = new_pictures(paths, metadata.provenance)
    check_enough(len(paths), rate)
    with Detector(
        arguments.model, backend=arguments.backend, threads=arguments.threads
    ) as detector:
        scores, appearance, sizes = score(
            detector, paths, skip=arguments.skip_unreadable, doubtful=arguments.doubtful or "drop"
        )
    if not arguments.force:
        check_share(scores, metadata.calibration, "pictures")
    return metadata.replaced(
        calibration=calibrate([*scores.values()], rate, scored_by=detector.backend),
        appearance=appearance,
        picture_sizes=sizes.joined(metadata.picture_sizes),
    )


def _from_scores(
    arguments: argparse.Namespace, model: bytes, metadata: ModelMetadata, rate: float
) -> ModelMetadata:
    """Returns the metadata with a threshold from stored scores, which tell nothing of pictures."""
    from ..inspection.calibration import calibrate
    from ..model_file.file import content_hash
    from .calibrating import check_share
    from .stored import ScoringModel, read_scores

    present = metadata.calibration
    judge = ScoringModel(content_hash(model), present.threshold if present else None)
    stored = read_scores(arguments.scores, judge, arguments.camera)
    if not arguments.force:
        check_share(stored.good, present, "good verdicts")
    calibration = calibrate(
        [*stored.good.values()], rate, scored_by="stored scores", rejected=stored.rejected
    )
    return metadata.replaced(calibration=calibration)


def _report(calibration: Calibration, output: Path, *, as_json: bool) -> None:
    from ..inspection.calibration import describe

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
    check=_check,
)
