"""`differnet doctor`: what this machine can do, and what to install for the rest.

Imported on every start of `differnet`, so the work (`diagnosing`) is imported when it runs.
"""

from __future__ import annotations

import argparse

from ..command import Command
from .arguments import add_json, any_path, text


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `differnet doctor`."""
    parser.description = (
        "Looks at GPU, driver, TensorRT, JetPack, OpenCV, ONNX Runtime, disk and cameras, and "
        "tries every backend: being installed proves little. With a model, opens it with the "
        "backend that auto takes (TensorRT builds its engine first, where there is none) and "
        "scores its golden frames."
    )
    parser.epilog = (
        "Exit code 0: at least one backend works, the model too where one was given, and the unit "
        "hides nothing of the GPU where --unit was. 1: not."
    )
    parser.add_argument(
        "model", type=any_path, nargs="?", metavar="MODEL", help="an exported part.onnx to try"
    )
    parser.add_argument(
        "--unit",
        nargs="?",
        const="differnet@doctor.service",
        type=text,
        metavar="NAME",
        help="try the GPU under the confinement of a station's systemd unit (differnet@.service), "
        "and say which device node it hides; needs root",
    )
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Runs `differnet doctor`."""
    from .diagnosing import diagnose

    return diagnose(arguments.model, arguments.unit, as_json=arguments.json)


COMMAND = Command("doctor", "tell what this machine can do, and what to install", configure, run)
