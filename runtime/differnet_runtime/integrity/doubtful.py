"""What is done with good pictures that don't look like good pictures."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from ..errors import DataError
from .examination import Finding, listed

Doubtful = Literal["stop", "drop", "keep"]

_log = logging.getLogger(__name__)


def refuse(found: Sequence[Finding], total: int) -> None:
    """Refuses pictures that surely don't show a good part.

    Raises:
        DataError: There are some; lists them.
    """
    if found:
        raise DataError(
            f"{len(found)} of {total} pictures show no good part:\n{listed(found)}\n"
            "Move them to another folder: used as good ones, they would spoil the threshold."
        )


def act_on(found: Sequence[Finding], total: int, doubtful: Doubtful) -> frozenset[Path]:
    """Refuses doubtful pictures, or warns of them by name.

    Returns:
        The pictures to leave out.

    Raises:
        DataError: There are some, and `doubtful` is `stop`.
    """
    if not found:
        return frozenset()
    head = f"{len(found)} of {total} good pictures are doubtful"
    if doubtful == "stop":
        raise DataError(
            f"{head}:\n{listed(found)}\nLook at them and remove those that are not of good parts, "
            "or go on without them: --doubtful drop, or with them: --doubtful keep."
        )
    done = (
        "They are left out. If they are of good parts, take them in with --doubtful keep."
        if doubtful == "drop"
        else "They are taken in, as --doubtful keep says."
    )
    _log.warning("%s:\n%s\n%s", head, listed(found), done)
    return frozenset(one.path for one in found) if doubtful == "drop" else frozenset()
