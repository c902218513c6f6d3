"""The kernel's notices of files that come into a folder, where `watchdog` is installed."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from watchdog.events import FileSystemEvent

Kind = Literal["begun", "complete"]
"""A file was created, and is being written; or was closed by its writer, or moved in."""

_USED_UP = (errno.ENOSPC, errno.EMFILE)

log = logging.getLogger(__name__)


class Notices:
    """Collects notices of one folder; without `watchdog`, or where it can't work, there are none.

    They tell of what this machine does. What another machine writes to a share is not among them.

    Args:
        folder: Is there.
    """

    def __init__(self, folder: Path) -> None:
        self._waiting: deque[tuple[str, Kind]] = deque()
        self._close = contextlib.ExitStack()
        self.works = False
        """Whether the kernel tells of this folder."""
        try:
            self._watch(folder)
            self.works = True
        except ImportError:
            _say(folder, "the package watchdog is not installed")
        except OSError as error:
            hint = "; raise fs.inotify.max_user_watches" if error.errno in _USED_UP else ""
            _say(folder, f"{error.strerror or error}{hint}")

    def _watch(self, folder: Path) -> None:
        from watchdog.events import FileClosedEvent, FileCreatedEvent, FileMovedEvent
        from watchdog.observers.inotify import InotifyObserver

        observer = InotifyObserver(generate_full_events=True)
        observer.schedule(
            self,  # type: ignore[arg-type]  # it only calls `dispatch`
            str(folder),
            event_filter=[FileClosedEvent, FileCreatedEvent, FileMovedEvent],
        )
        observer.start()
        self._close.callback(observer.stop)

    def dispatch(self, event: FileSystemEvent) -> None:
        """Takes a notice; called by watchdog's thread."""
        if event.is_directory:
            return
        if event.event_type == "moved":
            if event.dest_path:
                self._waiting.append((_name(event.dest_path), "complete"))
        else:
            kind: Kind = "complete" if event.event_type == "closed" else "begun"
            self._waiting.append((_name(event.src_path), kind))

    def taken(self) -> list[tuple[str, Kind]]:
        """Returns the notices since the last call, as file name and kind, in order."""
        return [self._waiting.popleft() for _ in range(len(self._waiting))]

    def close(self) -> None:
        """Ends them."""
        self._close.close()


def _say(folder: Path, why: str) -> None:
    log.warning(
        "%s: the kernel gives no notice of new pictures (%s). They are found by looking, and wait "
        "longer until they count as complete.",
        folder,
        why,
    )


def _name(path: bytes | str) -> str:
    return Path(os.fsdecode(path)).name
