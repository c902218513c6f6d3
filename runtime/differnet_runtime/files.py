"""Writing a file whole or not at all, and trying beforehand whether it can be written."""

from __future__ import annotations

import contextlib
import os
import secrets
import tempfile
from collections.abc import Iterator
from pathlib import Path

from .errors import OutputError


def write_bytes(path: Path, data: bytes) -> None:
    """Writes a file so that it is there whole or not at all.

    Raises:
        OutputError: The disk is full, or the path can't be written.
    """
    partial = _partial(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise OutputError(f"{path}: {error.strerror or error}. Nothing was replaced.") from error


def sync_folder(folder: Path) -> None:
    """Makes the names in a folder durable: without it a power cut may undo a rename.

    Raises:
        OSError: The folder can't be opened.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def try_file(path: Path) -> None:
    """Tries whether `write_bytes` could write a file; leaves nothing behind.

    Raises:
        OutputError: It couldn't, since it is a folder or its folder can't be written.
    """
    with _mapped(path):
        if path.is_dir():
            raise OutputError(f"{path} is a folder; the name of a file is expected")
        if _is_there(path) and not path.is_file():
            raise OutputError(f"{path} is a device or a pipe; the name of a file is expected")
        _is_there(_partial(path))  # it can't even be looked for if its name is too long
        _try_folder(path.parent)


def try_folder(path: Path) -> None:
    """Tries whether files could be written into a folder, there or not; leaves nothing behind.

    Raises:
        OutputError: They couldn't, since it is a file or can't be written.
    """
    with _mapped(path):
        _try_folder(path)


def _try_folder(path: Path) -> None:
    nearest = path.absolute()
    while not _is_there(nearest):
        nearest = nearest.parent
    if not nearest.is_dir():
        raise NotADirectoryError(0, f"{nearest} is a file, where a folder is needed")
    with tempfile.TemporaryFile(dir=nearest):
        pass


def try_appending(path: Path) -> None:
    """Tries whether a file can be added to, or made where there is none; leaves nothing behind.

    Raises:
        OutputError: It can't.
    """
    with _mapped(path):
        if not _is_there(path) or path.is_dir():
            try_file(path)
            return
        if not os.access(path, os.W_OK):  # opening a pipe would wait for its reader
            raise OutputError(f"{path} can't be written: permission denied")


def _is_there(path: Path) -> bool:
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


@contextlib.contextmanager
def _mapped(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(f"{path} can't be written: {error.strerror or error}") from error


def _partial(path: Path) -> Path:
    """Nobody can guess the name, and put a link there before the file is opened."""
    return path.with_name(f".{path.name}.{secrets.token_hex(6)}.partial")
