"""The audit trail: who changed what, logged in, or sent a wrong token, and from which address."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ..errors import DifferNetError
from ..events import AuditAction, AuditEvent
from ..text import printable

if TYPE_CHECKING:
    from .control import Control


_KEPT = 200
_SUSPECT = ("wrong_token",)
log = logging.getLogger(__name__)

FILES = "files"
"""Author of changes to files that the station watches: configuration, model store, model file."""


class AuditTrail:
    """Keeps the latest entries, and logs and publishes each. Thread-safe.

    Args:
        station: Name of the station, for the events.
        tell: Publishes an event.
        settle: Waits for a moment at most until the published events are on disk.
    """

    def __init__(
        self,
        station: str,
        tell: Callable[[AuditEvent], None],
        settle: Callable[[], object] = lambda: None,
    ) -> None:
        self._station, self._tell, self.settle = station, tell, settle
        self._latest: deque[AuditEvent] = deque(maxlen=_KEPT)
        self._lock = threading.Lock()

    def add(
        self,
        action: AuditAction,
        by: str,
        *,
        address: str | None = None,
        old: str | None = None,
        new: str | None = None,
        error: str | None = None,
        count: int = 1,
    ) -> None:
        """Adds an entry; see `AuditEvent`."""
        event = AuditEvent(
            station=self._station, action=action, by=by, address=address, old=old, new=new,
            error=error, count=count,
        )  # fmt: skip
        with self._lock:
            self._latest.append(event)
        failed = error is not None or action in _SUSPECT
        log.log(logging.WARNING if failed else logging.INFO, "%s", _line(event))
        self._tell(event)

    def latest(self, limit: int) -> list[AuditEvent]:
        """Returns up to `limit` entries, newest first."""
        with self._lock:
            return list(self._latest)[: -limit - 1 : -1]


def _line(event: AuditEvent) -> str:
    words = [f"{event.action} by {event.by}"]
    if event.address is not None:
        words.append(f"from {event.address}")
    if event.count > 1:
        words.append(f"{event.count} times")
    if event.new is not None:
        words.append(event.new if event.old is None else f"{event.old} -> {event.new}")
    if event.error is not None:
        words.append(f"failed: {event.error}")
    return printable(", ".join(words))


@contextmanager
def switching(
    control: Control, action: AuditAction, by: str, address: str | None = None
) -> Iterator[None]:
    """Adds an entry for the change of model that the body makes, or for its failure.

    Args:
        control: The station.
        action: Kind of change.
        by: Author of the change.
        address: Address of the client; None for a change of files.
    """
    before = control.judging()
    try:
        yield
    except DifferNetError as error:
        old = "; ".join(before)
        control.audit.add(action, by, address=address, old=old, error=str(error))
        raise
    after = control.judging()
    old, new = (_others(*pair) or "; ".join(after) for pair in ((before, after), (after, before)))
    control.audit.add(action, by, address=address, old=old, new=new)


def _others(models: list[str], known: list[str]) -> str:
    """Returns those of a station's models that are not among the known ones."""
    return "; ".join(model for model in models if model not in known)
