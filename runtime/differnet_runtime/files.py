"""Files: atomic writes, checks before a long run, locks, and the suffixes of image files."""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from .errors import DifferNetError, OutputError, StoreError

SUFFIXES = frozenset(
    {".bmp", ".j2k", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".pgm", ".png", ".pnm", ".ppm"}
    | {".tif", ".tiff", ".webp"}
)
"""Suffixes of files that are read as images."""

NOT_READ = frozenset(
    {".arw", ".avif", ".cr2", ".cr3", ".dcm", ".dng", ".exr", ".fits", ".gif", ".hdr", ".heic"}
    | {".heif", ".j2c", ".jpc", ".jpx", ".jxl", ".jxr", ".nef", ".orf", ".pam", ".pbm", ".pcx"}
    | {".psd", ".raf", ".ras", ".raw", ".rw2", ".sgi", ".svg", ".tga", ".xcf"}
)
"""Suffixes of image files in formats that are not supported; skipping them is reported."""

_LOCK = ".lock"


def write_bytes(path: Path, data: bytes, *, durable: bool = False) -> None:
    """Writes a file atomically: readers see the old content or the new one, never a part of it.

    Args:
        path: The file; missing folders above it are created.
        data: Its content, which is on disk when this returns.
        durable: Also syncs the folder, without which a power cut may bring the old file back.

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
    if durable:
        sync_folder(path.parent)


def _partial(path: Path) -> Path:
    """Returns a temporary name that nobody can guess, so nobody can place a link there first."""
    return path.with_name(f".{path.name}.{os.urandom(6).hex()}.partial")


def sync_folder(folder: Path) -> None:
    """Makes created, renamed and deleted names in a folder survive a power cut.

    Raises:
        OutputError: The folder can't be opened or synced.
    """
    with os_errors(OutputError, folder):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def numbers_in(path: Path) -> dict[str, int]:
    """Returns the numbers in a file of the kernel with lines of `NAME: NUMBER`, by their names.

    Empty if it can't be read. `/proc/meminfo` and `/proc/PID/status` count in KiB.
    """
    with contextlib.suppress(OSError):
        lines = [line.split() for line in path.read_text(errors="replace").splitlines()]
        return {
            one[0].rstrip(":"): int(one[1]) for one in lines if len(one) > 1 and one[1].isdecimal()
        }
    return {}


def try_file(path: Path) -> None:
    """Checks that `write_bytes` could write a file, and leaves nothing behind.

    Raises:
        OutputError: It is a folder or a device, or its folder can't be written.
    """
    with os_errors(OutputError, f"{path} can't be written"):
        if path.is_dir():
            raise OutputError(f"{path} is a folder; the name of a file is expected")
        if _is_there(path) and not path.is_file():
            raise OutputError(f"{path} is a device or a pipe; the name of a file is expected")
        _is_there(_partial(path))  # raises an error if the name is too long
        _try_folder(path.parent)


def try_folder(path: Path) -> None:
    """Checks that files could be written into a folder, existing or not; leaves nothing behind.

    Raises:
        OutputError: It is a file, or can't be written.
    """
    with os_errors(OutputError, f"{path} can't be written"):
        _try_folder(path)


def try_appending(path: Path) -> None:
    """Checks that a file can be appended to or created, and leaves nothing behind.

    Raises:
        OutputError: It can't.
    """
    with os_errors(OutputError, f"{path} can't be written"):
        if not _is_there(path) or path.is_dir():
            try_file(path)
        elif not os.access(path, os.W_OK):  # opening a pipe would wait for its reader
            raise OutputError(f"{path} can't be written: permission denied")


def _try_folder(path: Path) -> None:
    nearest = path.absolute()
    while not _is_there(nearest):
        nearest = nearest.parent
    if not nearest.is_dir():
        raise NotADirectoryError(0, f"{nearest} is a file, where a folder is needed")
    with tempfile.TemporaryFile(dir=nearest):
        pass


def _is_there(path: Path) -> bool:
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


@contextlib.contextmanager
def os_errors(kind: type[DifferNetError], what: object) -> Iterator[None]:
    """Raises an `OSError` of the body as an error of the user: `WHAT: No space left on device`.

    Args:
        kind: Class of the error.
        what: Beginning of the message, mostly the path.
    """
    try:
        yield
    except OSError as error:
        raise kind(f"{what}: {error.strerror or error}") from error


def lock_file(path: Path, *, wait: bool = True) -> IO[str]:
    """Locks a file against other processes.

    Args:
        path: The file; created if it does not exist.
        wait: Whether to wait for a process that holds the lock.

    Returns:
        The open file. The lock is held until it is closed or this process ends; child processes do
        not inherit it.

    Raises:
        BlockingIOError: Another process holds the lock, and `wait` is False.
        OSError: The file can't be opened.
    """
    with contextlib.ExitStack() as undo:
        file = undo.enter_context(path.open("a+", encoding="ascii"))
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        undo.pop_all()
        return file


class TakenError(StoreError):
    """Another station uses the state folder."""


def lock_folder(path: Path) -> IO[str]:
    """Locks a state folder for this process, without waiting.

    Two stations in one folder would write to the same outbox, evidence and model state.

    Args:
        path: The state folder; created if it does not exist.

    Returns:
        The open lock file; see `lock_file`.

    Raises:
        TakenError: Another station uses it.
        StoreError: It can't be written.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        file = lock_file(path / _LOCK, wait=False)
    except BlockingIOError:
        raise TakenError(
            f"station.state: another station uses {path} ({_holder(path)}); give each its own "
            "state in [station]"
        ) from None
    except OSError as error:
        raise StoreError(
            f"station.state: {path} can't be used: {error.strerror or error}"
        ) from error
    with contextlib.suppress(OSError):  # on a full disk it holds, but is not named
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
    return file


def user_of(path: Path) -> str | None:
    """Returns the process that holds a state folder ("process 4711"), or None."""
    try:
        with (path / _LOCK).open(encoding="ascii") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return None
    except OSError as error:
        return _holder(path) if isinstance(error, BlockingIOError) else None


def _holder(path: Path) -> str:
    with contextlib.suppress(OSError, ValueError):
        return f"process {int((path / _LOCK).read_text(encoding='ascii'))}"
    return "a process"
