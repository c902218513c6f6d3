"""`differnet run`: inspects the frames of a source, or runs a station unattended.

Every frame gets GOOD, DEFECT or NO_DECISION. With --config, the file describes cameras, outputs and
the page, and the station runs until the process is told to stop.

Imported on every start of `differnet`, so detector and station are imported when the command runs.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from contextlib import closing
from itertools import islice
from typing import TYPE_CHECKING

from ..command import Command, progress, require_service
from ..errors import ConfigError
from .arguments import (
    DEVICES,
    SOURCES,
    add_backend,
    add_json,
    added_file,
    any_path,
    count,
    finite,
    new_folder,
    source,
)

if TYPE_CHECKING:
    from ..records import Frame, Inspection


UNDECIDED = 3
"""Exit code when every frame was a NO_DECISION."""

_OF_A_SOURCE = {
    **dict.fromkeys(("model", "source", "output", "save", "threshold", "limit")),
    "show": False,
    "json": False,
    "any_size": False,
    "backend": "auto",
    "threads": 0,
}
"""Defaults of the options that don't go with --config: the station's file replaces them."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `differnet run`."""
    parser.epilog = (
        "Exit code 0: at least one frame was judged (GOOD or DEFECT). 2: an error; also when there "
        "was no frame. 3: every frame was a NO_DECISION. 130: interrupted."
    )
    parser.add_argument(
        "--config",
        type=any_path,
        metavar="FILE",
        help="run the station that this TOML file describes (`differnet check` reads it first)",
    )
    parser.add_argument("--model", type=any_path, metavar="FILE", help="the exported part.onnx")
    parser.add_argument(
        "--source",
        type=source,
        metavar="SOURCE",
        help=SOURCES,
    )
    parser.add_argument(
        "--output",
        type=added_file,
        metavar="FILE",
        help="add one line of JSON per frame to this file",
    )
    parser.add_argument(
        "--save",
        type=new_folder,
        metavar="DIR",
        help="write every picture with its verdict drawn on",
    )
    parser.add_argument("--show", action="store_true", help="show them in a window; q ends")
    parser.add_argument(
        "--threshold", type=finite, metavar="X", help="use this in place of the model's threshold"
    )
    parser.add_argument(
        "--any-size",
        action="store_true",
        help="judge frames of every size, not only of those that the model learned from",
    )
    parser.add_argument("--limit", type=count, metavar="N", help="stop after N frames")
    add_json(parser, "one line per frame")
    add_backend(parser)


def run(arguments: argparse.Namespace) -> int:
    """Runs `differnet run`."""
    if arguments.config is not None:
        return _run_station(arguments)
    if arguments.model is None or arguments.source is None:
        raise ConfigError(
            "give --model and --source to inspect one source, or --config to run a station"
        )
    return _run_source(arguments)


def _run_station(arguments: argparse.Namespace) -> int:
    if given := [
        name for name, default in _OF_A_SOURCE.items() if getattr(arguments, name) != default
    ]:
        option = f"--{given[0].replace('_', '-')}"
        if given[0] == "backend" and arguments.backend in DEVICES:
            option = "--device"
        raise ConfigError(
            f"{option} and --config exclude each other: the station's file says all of it"
        )
    require_service()
    from ..station.running import run_station

    return run_station(arguments.config)


def _run_source(arguments: argparse.Namespace) -> int:
    from ..backends.selection import GPU, why_not_better
    from ..cameras import open_camera
    from ..config.models import IntegrityConfig
    from ..detector import Detector, inspect
    from ..errors import CameraError
    from .output import InspectionOutputs, VerdictSummary

    summary = VerdictSummary()
    with (
        Detector(
            arguments.model,
            backend=arguments.backend,
            threads=arguments.threads,
            integrity=IntegrityConfig(size="any" if arguments.any_size else "model"),
        ) as detector,
        open_camera(arguments.source) as camera,
        closing(
            InspectionOutputs(
                arguments.output,
                json=arguments.json,
                save=arguments.save,
                show=arguments.show,
                metadata=detector.metadata,
            )
        ) as outputs,
    ):
        refused = why_not_better(detector.not_better, asked=arguments.backend == GPU)
        for names, reason in refused.items():
            print(f"not {names}: {reason}", file=sys.stderr)
        frames = inspect(camera, detector, threshold=arguments.threshold)
        try:
            for frame, inspection in _limited(frames, arguments, camera.length):
                summary.add(inspection)
                if not outputs.add(frame, inspection):
                    break
        finally:
            if summary.frames:
                print(summary.text(detector.backend), file=sys.stderr)
    if summary.frames == 0:
        raise CameraError(f"{camera.source} gave no frame: nothing was inspected")
    return UNDECIDED if summary.undecided else 0


def _limited(
    frames: Iterable[tuple[Frame | None, Inspection]],
    arguments: argparse.Namespace,
    length: int | None,
) -> Iterable[tuple[Frame | None, Inspection]]:
    """Applies --limit, and shows progress where no line is printed per frame."""
    limit: int | None = arguments.limit
    frames = islice(frames, limit)
    if not arguments.output or arguments.json:
        return frames
    known = [number for number in (limit, length) if number is not None]
    return progress(frames, "inspect", total=min(known, default=None), unit="frames")


COMMAND = Command(
    "run",
    "inspect pictures, a video or a camera with an exported model, or run a station",
    configure,
    run,
    extra="opencv-headless,onnx-cpu",
    modules=("cv2",),
)
