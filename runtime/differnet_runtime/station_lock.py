"""One station a state folder: two would write to the same outbox, evidence and model state."""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path
from typing import IO

from .errors import StoreError

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
