"""Types of options that name files and folders: inputs must be there, outputs are tried."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from differnet_runtime.errors import OutputError

from .arguments import refused, text


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
    from differnet_runtime.files import try_file

    return _tried(value, try_file)


def new_folder(value: str) -> Path:
    """Reads the path of a folder to be written into, and tries whether it can be."""
    from differnet_runtime.files import try_folder

    return _tried(value, try_folder)


def added_file(value: str) -> Path:
    """Reads the path of a file that is added to, and tries whether it can be."""
    from differnet_runtime.files import try_appending

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
