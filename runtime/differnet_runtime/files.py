"""Writing a file whole or not at all, and trying beforehand whether it can be written.

File name endings of pictures: those that are read, and those that are passed over.

One station a state folder: two would write to the same outbox, evidence and model state.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from .errors import OutputError, StoreError


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
    return path.with_name(f".{path.name}.{os.urandom(6).hex()}.partial")


SUFFIXES = frozenset(
    {".bmp", ".j2k", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".pgm", ".png", ".pnm", ".ppm"}
    | {".tif", ".tiff", ".webp"}
)
"""File name endings that count as pictures."""

NOT_READ = frozenset(
    {".arw", ".avif", ".cr2", ".cr3", ".dcm", ".dng", ".exr", ".fits", ".gif", ".hdr", ".heic"}
    | {".heif", ".j2c", ".jpc", ".jpx", ".jxl", ".jxr", ".nef", ".orf", ".pam", ".pbm", ".pcx"}
    | {".psd", ".raf", ".ras", ".raw", ".rw2", ".sgi", ".svg", ".tga", ".xcf"}
)
"""Endings of pictures that are passed over, which is said."""


_NAME = ".lock"


class TakenError(StoreError):
    """Another station uses the folder."""


def lock_folder(path: Path) -> IO[str]:
    """Takes a state folder for this process; never waits.

    Args:
        path: Of the folder; made where there is none.

    Returns:
        What holds the lock until it is closed or the process ends, however that comes about. It is
        not handed on to programs that this process starts.

    Raises:
        TakenError: Another station uses it.
        StoreError: It can't be written.
    """
    with contextlib.ExitStack() as undo:
        try:
            path.mkdir(parents=True, exist_ok=True)
            file = undo.enter_context((path / _NAME).open("a+", encoding="ascii"))
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise TakenError(
                f"station.state: another station uses {path} ({_named(path)}); give each its own "
                "state in [station]"
            ) from None
        except OSError as error:
            raise StoreError(
                f"station.state: {path} can't be used: {error.strerror or error}"
            ) from error
        with contextlib.suppress(OSError):  # a full disk: the lock holds, it just has no name
            file.truncate(0)
            file.write(f"{os.getpid()}\n")
            file.flush()
        undo.pop_all()
        return file


def user_of(path: Path) -> str | None:
    """Returns in words which process uses a state folder; None if none is seen to."""
    try:
        with (path / _NAME).open(encoding="ascii") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _named(path)
    except OSError:
        return None
    return None


def _named(path: Path) -> str:
    with contextlib.suppress(OSError, ValueError):
        return f"process {int((path / _NAME).read_text(encoding='ascii'))}"
    return "a process"
