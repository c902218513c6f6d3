"""`differnet capture`: takes pictures of good parts, all with the same camera settings.

Imported on every start of `differnet`, so the work (`capturing`) is imported when it runs.
"""

from __future__ import annotations

import argparse

from ..command import Command
from .arguments import SOURCES, count, finite, new_folder, region, seconds, source


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `differnet capture`."""
    parser.description = (
        "Takes pictures of good parts for training: whole frames, as PNG, numbered on from what "
        "is in the folder. A device's exposure, gain and white balance are locked first. "
        "capture.json in the folder says how the pictures were taken; training reads it."
    )
    parser.add_argument(
        "--camera",
        type=source,
        required=True,
        metavar="SOURCE",
        help=SOURCES,
    )
    parser.add_argument(
        "--output", type=new_folder, required=True, metavar="DIR", help="the folder"
    )
    parser.add_argument(
        "--count", type=count, default=300, metavar="N", help="pictures to take now (300)"
    )
    roi = parser.add_mutually_exclusive_group()
    roi.add_argument(
        "--roi", type=region, metavar="X,Y,W,H", help="the region of interest, in pixels"
    )
    roi.add_argument("--choose-roi", action="store_true", help="drag it on the first picture")
    parser.add_argument(
        "--fit",
        choices=("stretch", "letterbox", "crop"),
        help="how the region becomes the model's input (stretch)",
    )
    parser.add_argument(
        "--interval", type=seconds, default=0.0, metavar="S", help="seconds between pictures (0)"
    )
    parser.add_argument(
        "--keep-similar",
        action="store_true",
        help="also save frames that differ from one of the last by noise alone",
    )
    parser.add_argument(
        "--settle",
        type=seconds,
        default=2.0,
        metavar="S",
        help="seconds for the camera's automatics before they are locked (2)",
    )
    for name in ("exposure", "gain"):
        parser.add_argument(
            f"--{name}", type=finite, metavar="X", help=f"{name} in the driver's units"
        )


def run(arguments: argparse.Namespace) -> int:
    """Runs `differnet capture`."""
    from .capturing import capture

    capture(arguments)
    return 0


COMMAND = Command(
    "capture",
    "take pictures of good parts with locked camera settings",
    configure,
    run,
    extra="opencv-headless",
    modules=("cv2",),
)
