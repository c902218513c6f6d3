"""Arguments that several subcommands share, and how their values are read."""

from __future__ import annotations

import argparse
import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from differnet_runtime.metadata import Region


def add_backend(parser: argparse.ArgumentParser) -> None:
    """Adds `--backend` and `--threads`."""
    parser.add_argument(
        "--backend",
        default="auto",
        metavar="NAME",
        help="what runs the model: auto (the best that works here; `differnet doctor` tells), "
        "tensorrt, onnxruntime-tensorrt, onnxruntime-cuda or onnxruntime-cpu",
    )
    parser.add_argument(
        "--threads",
        type=whole_number,
        default=0,
        metavar="N",
        help="CPU threads; 0 leaves the choice to the backend",
    )


def whole_number(text: str) -> int:
    """Reads a whole number from 0 on."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 on")
    return int(text)


def count(text: str) -> int:
    """Reads a whole number from 1 on."""
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 on")
    return int(text)


def finite(text: str) -> float:
    """Reads a finite number; NaN as a threshold would call every part good."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"{text!r} is not a finite number")
    return value


def seconds(text: str) -> float:
    """Reads a duration from 0 on."""
    value = finite(text)
    if value < 0.0:
        raise argparse.ArgumentTypeError(f"{text!r} is negative; a time in seconds is expected")
    return value


def region(text: str) -> Region:
    """Reads X,Y,WIDTH,HEIGHT in pixels of the camera's frame."""
    from differnet_runtime.metadata import Region

    numbers = text.split(",")
    try:
        x, y, width, height = (int(number) for number in numbers)
        return Region(x=x, y=y, width=width, height=height)
    except ValueError as error:  # pydantic's too
        raise argparse.ArgumentTypeError(
            f"{text!r} is not X,Y,WIDTH,HEIGHT: four whole numbers of pixels, X and Y from 0 on, "
            "WIDTH and HEIGHT from 8 on"
        ) from error
