"""The options that name the folders of good and of defective parts, for train and eval."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..datasets import ClassNames


def add_class_names(parser: argparse.ArgumentParser) -> None:
    """Adds `--good` and `--defect`."""
    parser.add_argument(
        "--good",
        type=_folder_name,
        metavar="NAME",
        help="folder of good parts in the data (default good)",
    )
    parser.add_argument(
        "--defect",
        type=_folder_name,
        nargs="+",
        default=(),
        metavar="NAME",
        help="folders of defects (by default all others that hold pictures)",
    )


def class_names(args: argparse.Namespace) -> ClassNames:
    """Returns the names that were given, or the usual ones."""
    from ..datasets import ClassNames

    return ClassNames(args.good or ClassNames.good, tuple(args.defect))


def _folder_name(text: str) -> str:
    """Reads the name of one folder."""
    if not text or text in (".", "..") or set(text) & {"/", "\\", "\0"}:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not the name of a folder; the folder that holds it is --data"
        )
    return text
