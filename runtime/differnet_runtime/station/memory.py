"""The memory that a station's processes will need, estimated before they start.

The figures are proportional set sizes: memory that processes share counts once.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..config import PlannedModel
from ..errors import ConfigError
from ..inference.memory import expected_memory
from ..inference.process import NO_METADATA
from ..model_file.metadata import ModelMetadata
from ..sentences import sentence

MIB = 1 << 20
_STATION = 65 * MIB
"""The station's own process, with its results and its page."""
_CAPTURE = 35 * MIB
_FRAMES = 8
"""Frames of a camera in its shared memory and in the station."""
_MEMINFO, _CGROUP = Path("/proc/meminfo"), Path("/sys/fs/cgroup/memory.max")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Share:
    """The memory that a model needs.

    Args:
        name: Name of the model in the station.
        engine: Bytes of its engine process on the CPU; a GPU's libraries take more.
        captures: Bytes of its cameras' capture processes.
    """

    name: str
    engine: int
    captures: int


def share_without_model(planned: PlannedModel) -> Share:
    """Returns what a model that does not exist yet needs: only its cameras' memory."""
    return replace(share_of(planned, NO_METADATA, 0), engine=0)


def share_of(planned: PlannedModel, metadata: ModelMetadata, file_bytes: int) -> Share:
    """Returns what a model needs.

    Args:
        planned: The model, and the cameras that it judges.
        metadata: Metadata of the model file.
        file_bytes: Size of the model file.
    """
    sizes, contract = metadata.picture_sizes, metadata.input
    height, width = (sizes.height[1], sizes.width[1]) if sizes else contract.shape[:2]
    capture = _CAPTURE + _FRAMES * height * width * 3
    return Share(
        planned.name,
        expected_memory(metadata, file_bytes, planned.config.max_batch or 1),
        capture * len(planned.cameras),
    )


def total_bytes(shares: Sequence[Share]) -> int:
    """Returns the bytes that the station takes while it judges."""
    return _STATION + sum(share.engine + share.captures for share in shares)


def changing_bytes(shares: Sequence[Share]) -> int:
    """Returns the bytes that it takes while the largest model changes, with two of its engines."""
    return total_bytes(shares) + max((share.engine for share in shares), default=0)


def describe(shares: Sequence[Share]) -> str:
    """Returns the parts of `total_bytes` in words."""
    captures = sum(share.captures for share in shares)
    engines = ", ".join(f"{share.name} {mib(share.engine)}" for share in shares)
    return f"station {mib(_STATION)}, captures {mib(captures)}, engines {engines}"


def mib(count: int) -> str:
    """Formats bytes as MiB."""
    return f"{count / MIB:.0f} MiB"


def machine_bytes() -> int | None:
    """Returns the bytes that this process may take: the machine's, or its control group's limit."""
    found = []
    with contextlib.suppress(OSError, ValueError, StopIteration):
        kib = next(line.split()[1] for line in _MEMINFO.read_text().splitlines() if "Total" in line)
        found.append(int(kib) << 10)
    with contextlib.suppress(OSError, ValueError):  # no such file, or "max": no bound
        found.append(int(_CGROUP.read_text()))
    return min(found, default=None)


def require_room(
    shares: Sequence[Share],
    limit_mb: int | None,
    another: int = 0,
    *,
    of_the_machine: bool = False,
) -> None:
    """Refuses models that need more than `[station] memory_mb`, if that is given.

    Args:
        shares: Needs of all models.
        limit_mb: Limit in MiB; None without a limit.
        another: Bytes of an engine that runs beside them during a change.
        of_the_machine: Whether the machine's memory is the limit if none is given.

    Raises:
        ConfigError: The models need more.
    """
    needed = total_bytes(shares) + another
    change = f", another during the change {mib(another)}" if another else ""
    text, all_mib = describe(shares) + change, mib(needed)
    if limit_mb is not None and needed > limit_mb * MIB:
        raise ConfigError(sentence("model_no_room", needed=all_mib, shares=text, allowed=limit_mb))
    there = machine_bytes() if of_the_machine and limit_mb is None else None
    if there is not None and needed > there:
        raise ConfigError(
            sentence("machine_no_room", needed=all_mib, shares=text, there=mib(there))
        )


def warn_of_room(shares: Sequence[Share]) -> None:
    """Logs a warning if the models need more memory than the machine has."""
    there, needed = machine_bytes(), total_bytes(shares)
    if there is not None and needed > there:
        log.warning("the models need %s, but this machine has only %s", mib(needed), mib(there))
