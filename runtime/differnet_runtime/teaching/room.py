"""Whether there is room for more: pictures have a bound, and some of the disk stays free."""

from __future__ import annotations

from pathlib import Path

from ..errors import OutputError
from ..evidence.room import free_bytes
from .site import Site


def lacking(site: Site, folder: Path, need: int = 0) -> str | None:
    """Says why so many bytes more can't be written; None where they can.

    Args:
        site: The station, whose `min_free_bytes` stay free.
        folder: On the disk that is written to.
        need: Bytes.
    """
    left = site.config.evidence.min_free_bytes
    free = free_bytes(folder)
    if free is None or free - need >= left:
        return None
    return (
        f"only {free >> 20} MiB of the disk are free, and {left >> 20} must stay free "
        "(min_free_bytes in [evidence]): make room"
    )


def require(site: Site, folder: Path, need: int) -> None:
    """Refuses what has no room; see `lacking`.

    Raises:
        OutputError: There is no room.
    """
    if (why := lacking(site, folder, need)) is not None:
        raise OutputError(why)


def too_many(site: Site, taken: int) -> str | None:
    """Says that pictures take more bytes than they may; None where they don't.

    Args:
        site: The station, with its `max_bytes`.
        taken: Bytes of all pictures.
    """
    most = site.config.teach.max_bytes
    if taken <= most:
        return None
    return (
        f"all collected pictures together take {most >> 20} MiB at most (max_bytes in "
        "[teach]): delete a data set that is not needed any more"
    )
