"""The options that several commands share, and the types that read and check option values.

Every option of every command has one of these types (or `choices`), so that a wrong value is
refused with the option's name before any work begins. Inputs must exist; outputs are tried.

Imported on every start of `differnet`, so what is heavy is imported inside the functions.
"""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from ..errors import DifferNetError
from ..files import try_appending, try_file, try_folder

if TYPE_CHECKING:
    from ..model_file.contract import Region

T = TypeVar("T")

DEVICES = ("auto", "gpu", "cpu")
SOURCES = (
    "a device (0, /dev/video0), the URL of a stream (rtsp://, http://), a GStreamer pipeline "
    "(gst:...), a folder of pictures, a picture or a video; docs/daemon.md has examples"
)
"""Help of options that take a source of frames."""
_SHOWN = 60
"""Characters of a wrong value that a message shows."""
_WHOLE = re.compile(r"-?[0-9]{1,19}")


def add_model(parser: argparse.ArgumentParser, *, optional: bool = False) -> None:
    """Adds the argument `model`: the path of an exported model file."""
    parser.add_argument(
        "model",
        type=any_path,
        nargs="?" if optional else None,
        metavar="FILE",
        help="the exported part.onnx",
    )


def add_output(parser: argparse.ArgumentParser) -> None:
    """Adds `--output`, for commands that otherwise change the model file they are given."""
    parser.add_argument(
        "--output", type=new_file, metavar="FILE", help="write here, and leave the model as it is"
    )


def add_json(parser: argparse._ActionsContainer, what: str = "everything") -> None:
    """Adds `--json`.

    Args:
        parser: The command's parser, or a group of alternatives.
        what: What is printed, for the help.
    """
    parser.add_argument("--json", action="store_true", help=f"print {what} as JSON")


def add_threads(parser: argparse.ArgumentParser) -> None:
    """Adds `--threads`: the number of CPU threads of a backend."""
    parser.add_argument(
        "--threads",
        type=threads,
        default=0,
        metavar="N",
        help="CPU threads; 0 leaves the choice to the backend",
    )


def add_backend(parser: argparse.ArgumentParser) -> None:
    """Adds `--device`, `--backend` and `--threads`."""
    add_device(parser)
    add_threads(parser)


def add_device(
    parser: argparse.ArgumentParser, auto: str = "the best backend that works here"
) -> None:
    """Adds `--device` and its alternative `--backend`; both set `backend`.

    Args:
        parser: The parser that gets the options.
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


def completed(action: argparse.Action, names: Callable[[], Iterable[str]]) -> None:
    """Gives shell completion the values of an option; see `docs/terminal.md`.

    Args:
        action: The option or argument.
        names: Returns the values. Called only on completion, so it may import large packages.
    """
    vars(action)["completer"] = lambda **_: list(names())


def any_path(value: str) -> Path:
    """Reads a path that need not exist; what reads the file says what is wrong with it."""
    return Path(text(value))


def existing(value: str) -> Path:
    """Reads the path of a file or a folder that exists."""
    found = any_path(value)
    try:
        found.stat()
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{value!r}: {error.strerror or error}") from error
    return found


def existing_file(value: str) -> Path:
    """Reads the path of a file that exists."""
    found = existing(value)
    if found.is_dir():
        raise refused(value, "a file, but a folder")
    return found


def existing_folder(value: str) -> Path:
    """Reads the path of a folder that exists."""
    found = existing(value)
    if not found.is_dir():
        raise refused(value, "a folder, but a file")
    return found


def any_folder(value: str) -> Path:
    """Reads the path of a folder that may be missing, but must not be a file."""
    found = any_path(value)
    try:
        is_file = found.exists() and not found.is_dir()
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{value!r}: {error.strerror or error}") from error
    if is_file:
        raise refused(value, "a folder, but a file")
    return found


def new_file(value: str) -> Path:
    """Reads the path of a file to be written, and checks that it can be."""
    return _accepted(any_path(value), try_file)


def new_folder(value: str) -> Path:
    """Reads the path of a folder to write into, and checks that it can be written."""
    return _accepted(any_path(value), try_folder)


def added_file(value: str) -> Path:
    """Reads the path of a file to append to, and checks that it can be written."""
    return _accepted(any_path(value), try_appending)


@dataclass(frozen=True)
class WholeNumber:
    """Reads a whole number within limits.

    Args:
        least: The smallest number that is accepted.
        most: The largest number that is accepted.

    Example:
        >>> WholeNumber(1, 8)("4")
        4
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
    """Reads a finite number within limits; NaN is refused, as a threshold it would pass every part.

    Args:
        least: The smallest number that is accepted.
        most: The largest number that is accepted.
        what: What is expected, for the message.

    Example:
        >>> Number(0, 1)("0.5")
        0.5
    """

    least: float
    most: float
    what: str = "a number"

    def __call__(self, text: str) -> float:
        """Reads one."""
        value = _float(text)
        if not self.least <= value <= self.most:
            raise refused(text, f"{self.what} from {self.least:g} to {self.most:g}")
        return value


count = WholeNumber(least=1)
threads = WholeNumber(0, 1024)
seed = WholeNumber(0, 2**31 - 1)
finite = Number(-1e30, 1e30)
seconds = Number(0.0, 86_400.0, "a time in seconds")


def share(text: str) -> float:
    """Reads a share of parts, above 0 and below 1."""
    value = _float(text)
    if not 0.0 < value < 1.0:
        raise refused(text, "a share above 0 and below 1 (0.05 for 5 %)")
    return value


def _float(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


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


def source(value: str) -> str:
    """Reads a source of frames; what it names need not exist."""
    from ..config.grammar import check_source

    return _accepted(text(value), check_source)


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

    return _accepted(name, check_backend)


def region(text: str) -> Region:
    """Reads a region of interest, X,Y,WIDTH,HEIGHT in pixels of the camera's frame."""
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


def _accepted(value: T, check: Callable[[T], object]) -> T:
    """Returns a value that `check` accepts; the message of its refusal becomes the option's."""
    try:
        check(value)
    except (DifferNetError, ValueError) as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return value


def refused(text: str, expected: str) -> argparse.ArgumentTypeError:
    """Returns the error for a value that is not what was expected."""
    shown = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
    return argparse.ArgumentTypeError(f"{shown!r} is not {expected}")
