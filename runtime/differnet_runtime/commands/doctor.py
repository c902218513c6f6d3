"""`differnet doctor`: what this machine can do, and what to install for the rest."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..command import Command
from .arguments import any_path, text

UNFIT = 1
"""Exit code when no backend works, or the model does not."""


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
    parser.add_argument("--json", action="store_true", help="print everything as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Runs `differnet doctor`."""
    import json

    from ..confinement import try_unit
    from ..diagnosis import examine, try_backends
    from ..model_file.file import read_model_file
    from .diagnosing import as_record, as_text, try_model

    model: Path | None = arguments.model
    if model is not None:
        read_model_file(model)  # a wrong file is refused before the machine is looked at
    findings = examine(model.parent if model else Path.cwd())
    backends = try_backends()
    trial = try_model(model) if model else None
    unit = try_unit(arguments.unit) if arguments.unit else None
    if arguments.json:
        print(json.dumps(as_record(findings, backends, trial, unit), indent=2))
    else:
        print(as_text(findings, backends, trial, unit))
    works = None in backends.values() and (trial is None or trial.failure is None)
    return 0 if works and (unit is None or unit.sound) else UNFIT


COMMAND = Command("doctor", "tell what this machine can do, and what to install", configure, run)
