"""How many parts the cameras had since midnight or a reset, over restarts."""

from __future__ import annotations

import time
from collections.abc import Collection

from ..errors import StoreError
from .outbox import Outbox
from .tally import Reset, Tally


class PartLog:
    """Reads and resets the counts that the outbox commits with each event.

    Args:
        outbox: Commits them.
    """

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox

    def read(self, cameras: Collection[str]) -> dict[str, Tally]:
        """Returns the cameras' parts; none while the database can't be read."""
        _, table = self._outbox.pictures()
        try:
            return {} if table is None else table.tally(time.time(), cameras)
        except StoreError:
            return {}

    def reset(self, cameras: Collection[str]) -> None:
        """Begins the counting of these cameras' parts anew."""
        self._outbox.note(Reset(tuple(cameras), time.time()))
