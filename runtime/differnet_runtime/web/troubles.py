"""What strangers do to the web server: counted, and told once a minute at most."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

log = logging.getLogger(__name__)

EVERY_S = 60.0
"""A kind of trouble is told when it begins, and then at most this often."""

_MOST_SENDERS = 256
TEXTS: Mapping[str, tuple[int, str]] = MappingProxyType(
    {
        "full": (logging.WARNING, "too many connections: the longest idle ones were closed"),
        "sender_full": (
            logging.WARNING,
            "too many connections from one address: its idle or new ones were closed",
        ),
        "descriptors": (
            logging.WARNING,
            "connections were refused: the remaining file descriptors are kept for inspection "
            "(raise LimitNOFILE)",
        ),
        "no_request": (logging.INFO, "connections were closed: no complete request came in time"),
        "not_reading": (
            logging.WARNING,
            "connections were closed: the client did not read its answer",
        ),
        "viewers": (logging.WARNING, "too many viewers of a stream: the slowest were closed"),
        "wrong_token": (logging.WARNING, "wrong tokens"),
        "commands": (logging.WARNING, "commands were refused: they came too fast"),
        "connection": (logging.WARNING, "connections failed"),
        "answer": (logging.ERROR, "answers failed halfway"),
    }
)
"""Level and text of each kind."""


@dataclass
class _Kind:
    told_s: float = float("-inf")
    count: int = 0
    senders: Counter[str] = field(default_factory=Counter)
    detail: str = ""


@dataclass(frozen=True)
class Trouble:
    """What happened since it was last told.

    Args:
        kind: Of `TEXTS`.
        count: How often.
        sender: The address it came from most often; empty where it is not known.
        senders: Number of addresses, as far as they were kept apart.
        detail: Of the last one, or empty.
    """

    kind: str
    count: int
    sender: str
    senders: int
    detail: str


class Troubles:
    """Counts by kind; neither memory nor log grows with the number of strangers. Thread-safe."""

    def __init__(self) -> None:
        self._kinds = {kind: _Kind() for kind in TEXTS}
        self._totals = dict.fromkeys(TEXTS, 0)
        self._lock = threading.Lock()

    @property
    def counts(self) -> dict[str, int]:
        """How often each kind happened since the start."""
        with self._lock:
            return dict(self._totals)

    def note(self, kind: str, sender: str = "", detail: str = "") -> None:
        """Counts one.

        Args:
            kind: Of `TEXTS`.
            sender: Address.
            detail: For the log; only the last one is told.
        """
        with self._lock:
            self._totals[kind] += 1
            known = self._kinds[kind]
            known.count += 1
            known.detail = detail
            if sender and (sender in known.senders or len(known.senders) < _MOST_SENDERS):
                known.senders[sender] += 1

    def due(self, now_s: float | None = None) -> list[Trouble]:
        """Returns what is to be told now, and counts anew from there.

        Args:
            now_s: By the monotonic clock; None asks it.
        """
        now_s = time.monotonic() if now_s is None else now_s
        found = []
        with self._lock:
            for kind, known in self._kinds.items():
                if not known.count or now_s - known.told_s < EVERY_S:
                    continue
                sender = max(known.senders, key=known.senders.__getitem__, default="")
                found.append(Trouble(kind, known.count, sender, len(known.senders), known.detail))
                self._kinds[kind] = _Kind(now_s)
        return found


def tell(trouble: Trouble) -> None:
    """Writes a line to the log."""
    level, text = TEXTS[trouble.kind]
    source = f", most from {trouble.sender}" if trouble.sender else ""
    detail = f" ({trouble.detail})" if trouble.detail else ""
    log.log(level, "%s: %d since the last report%s%s", text, trouble.count, source, detail)
