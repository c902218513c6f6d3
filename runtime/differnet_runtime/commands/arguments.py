"""How the values of options are read and checked: each type refuses what can't be meant.

Every option and argument of every command has one of these types (or `choices`), so that a wrong
value is refused, with the option's name, before any work begins. Those for files and folders are in
`paths`.

Types of options that name files and folders: inputs must be there, outputs are tried.
"""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..command import completed
from ..errors import OutputError

if TYPE_CHECKING:
    from ..model_file.contract import Region


def any_path(value: str) -> Path:
    """Reads a path, which need not be there; the file's reader says what is wrong with it."""
    return Path(text(value))


def existing(value: str) -> Path:
    """Reads the path of a file or a folder that is there."""
    found = any_path(value)
    try:
        found.stat()
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{value!r}: {error.strerror or error}") from error
    return found


def existing_file(value: str) -> Path:
    """Reads the path of a file that is there."""
    found = existing(value)
    if found.is_dir():
        raise refused(value, "a file, but a folder")
    return found


def existing_folder(value: str) -> Path:
    """Reads the path of a folder that is there."""
    found = existing(value)
    if not found.is_dir():
        raise refused(value, "a folder, but a file")
    return found


def new_file(value: str) -> Path:
    """Reads the path of a file to be written, and tries whether it can be."""
    from ..files import try_file

    return _tried(value, try_file)


def new_folder(value: str) -> Path:
    """Reads the path of a folder to be written into, and tries whether it can be."""
    from ..files import try_folder

    return _tried(value, try_folder)


def added_file(value: str) -> Path:
    """Reads the path of a file that is added to, and tries whether it can be."""
    from ..files import try_appending

    return _tried(value, try_appending)


def any_folder(value: str) -> Path:
    """Reads the path of a folder that may be missing, but is no file."""
    found = any_path(value)
    try:
        is_file = found.exists() and not found.is_dir()
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{value!r}: {error.strerror or error}") from error
    if is_file:
        raise refused(value, "a folder, but a file")
    return found


def _tried(value: str, attempt: Callable[[Path], None]) -> Path:
    output = any_path(value)
    try:
        attempt(output)
    except OutputError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return output


_SHOWN = 60
"""So many characters of a wrong value are shown."""

_WHOLE = re.compile(r"-?[0-9]{1,19}")


DEVICES = ("auto", "gpu", "cpu")


def add_device(
    parser: argparse.ArgumentParser, auto: str = "the best backend that works here"
) -> None:
    """Adds `--device` and its alternative `--backend`; both set `backend`.

    Args:
        parser: The command's parser.
        auto: What `auto` chooses, for the help.
    """
    chosen = parser.add_mutually_exclusive_group()
    chosen.add_argument(
        "--device",
        dest="backend",
        choices=DEVICES,
        default="auto",
        help=f"what runs the model: auto ({auto}; `differnet doctor` shows which), gpu (ends with "
        "the reason if none works) or cpu",
    )
    named = chosen.add_argument(
        "--backend",
        type=backend,
        default="auto",
        metavar="NAME",
        help="one backend instead of a device: tensorrt, onnxruntime-tensorrt, onnxruntime-cuda "
        "or onnxruntime-cpu",
    )
    completed(named, _backends)


def _backends() -> tuple[str, ...]:
    from ..backends.selection import BACKENDS

    return BACKENDS


def add_backend(parser: argparse.ArgumentParser) -> None:
    """Adds `--device`, `--backend` and `--threads`."""
    add_device(parser)
    parser.add_argument(
        "--threads",
        type=threads,
        default=0,
        metavar="N",
        help="CPU threads; 0 leaves the choice to the backend",
    )


@dataclass(frozen=True)
class WholeNumber:
    """Reads a whole number within limits.

    Args:
        least: The least that is allowed.
        most: The most that is allowed.
    """

    least: int = 0
    most: int = 1_000_000_000

    def __call__(self, text: str) -> int:
        """Reads one."""
        if not (_WHOLE.fullmatch(text) and self.least <= int(text) <= self.most):
            raise refused(text, f"a whole number from {self.least} to {self.most}")
        return int(text)


@dataclass(frozen=True)
class Number:
    """Reads a finite number within limits.

    NaN is refused everywhere: as a threshold it would call every part good.

    Args:
        least: The least that is allowed.
        most: The most that is allowed.
        what: What is expected, for the message.
    """

    least: float
    most: float
    what: str = "a number"

    def __call__(self, text: str) -> float:
        """Reads one."""
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not self.least <= value <= self.most:
            raise refused(text, f"{self.what} from {self.least:g} to {self.most:g}")
        return value


whole_number = WholeNumber()
count = WholeNumber(least=1)
threads = WholeNumber(0, 1024)
seed = WholeNumber(0, 2**31 - 1)
finite = Number(-1e30, 1e30)
seconds = Number(0.0, 86_400.0, "a time in seconds")


def share(text: str) -> float:
    """Reads a share of parts: above 0 and below 1."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0.0 < value < 1.0:
        raise refused(text, "a share above 0 and below 1 (0.05 for 5 %)")
    return value


def text(value: str) -> str:
    """Reads a text that is not empty."""
    if not value.strip() or "\0" in value:
        raise argparse.ArgumentTypeError(f"a text is expected; received {value!r}")
    return value


def note(value: str) -> str:
    """Reads a note on a model: at most 1000 printable characters, in lines; it may be empty."""
    from ..names import LONGEST_NOTE, is_note

    if not is_note(value):
        raise refused(value, f"at most {LONGEST_NOTE} printable characters and line breaks")
    return value


SOURCES = (
    "a device (0, /dev/video0), the URL of a stream (rtsp://, http://), a GStreamer pipeline "
    "(gst:...), a folder of pictures, a picture or a video; docs/daemon.md has examples"
)
"""For the help of options that take a source."""


def source(value: str) -> str:
    """Reads a source of frames as it is written; what it names need not be there."""
    from ..config.grammar import check_source

    try:
        check_source(text(value))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return value


def pattern(value: str) -> str:
    """Reads a regular expression."""
    try:
        re.compile(text(value))
    except (re.error, OverflowError, RecursionError) as error:
        raise refused(value, f"a regular expression ({error})") from error
    return value


def backend(name: str) -> str:
    """Reads a backend's name."""
    from ..backends.selection import check_backend
    from ..errors import DifferNetError

    try:
        check_backend(name)
    except DifferNetError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return name


def region(text: str) -> Region:
    """Reads X,Y,WIDTH,HEIGHT in pixels of the camera's frame."""
    from ..model_file.contract import Region

    try:
        x, y, width, height = (WholeNumber(most=1_000_000)(number) for number in text.split(","))
        return Region(x=x, y=y, width=width, height=height)
    except (ValueError, argparse.ArgumentTypeError) as error:  # pydantic's too
        raise refused(
            text,
            "X,Y,WIDTH,HEIGHT: four whole numbers of pixels, X and Y from 0 on, WIDTH and HEIGHT "
            "from 8 on",
        ) from error


def refused(text: str, expected: str) -> argparse.ArgumentTypeError:
    """Returns the error of a value that is not what was expected."""
    shown = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
    return argparse.ArgumentTypeError(f"{shown!r} is not {expected}")
