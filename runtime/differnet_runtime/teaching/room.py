"""Checks the free space: all pictures together have a limit, and part of the disk stays free."""

from __future__ import annotations

from pathlib import Path

from ..errors import OutputError
from ..evidence.room import free_bytes
from ..sentences import sentence
from .site import Site


def lacking(site: Site, folder: Path, need: int = 0) -> str | None:
    """Returns why so many more bytes can't be written; None if they can.

    Args:
        site: The station, with its `min_free_bytes`.
        folder: A folder on the disk to be written to.
        need: Number of bytes.
    """
    left = site.config.evidence.min_free_bytes
    free = free_bytes(folder)
    if free is None or free - need >= left:
        return None
    return sentence("teach_disk_full", free=free >> 20, reserve=left >> 20)


def require(site: Site, folder: Path, need: int) -> None:
    """Checks that so many more bytes can be written; see `lacking`.

    Raises:
        OutputError: They can't.
    """
    if (why := lacking(site, folder, need)) is not None:
        raise OutputError(why)


def too_many(site: Site, taken: int) -> str | None:
    """Returns a message if the pictures take more bytes than allowed; else None.

    Args:
        site: The station, with its `max_bytes`.
        taken: Bytes of all pictures.
    """
    most = site.config.teach.max_bytes
    if taken <= most:
        return None
    return sentence("teach_all_full", most=most >> 20)
