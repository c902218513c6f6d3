"""Builds that failed, so that a start does not repeat one.

A build takes minutes, a station gives no verdicts meanwhile, and a graph that a version of
TensorRT can't build stays so: https://github.com/NVIDIA/TensorRT/issues/4736 (Orin, 10.3 and
10.7), https://github.com/NVIDIA/TensorRT/issues/4830 (Thor).

A failure lies beside the engines as KEY.failed, KEY being that of the identity.
"""

from __future__ import annotations

import contextlib
import logging
from datetime import datetime, timedelta, timezone
from pathlib import Path

from pydantic import ValidationError

from ..errors import OutputError
from ..files import write_bytes
from ..metadata import Part
from .identity import EngineIdentity

RETRY_AFTER = timedelta(days=1)

log = logging.getLogger(__name__)


class Failure(Part):
    """A build that failed.

    Args:
        identity: What was to be built; any other is built.
        reason: Why it failed, as the user was told.
        at: When.
    """

    identity: EngineIdentity
    reason: str
    at: datetime


class Failures:
    """What failed in one folder of engines.

    Args:
        folder: It need not exist.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def remember(self, identity: EngineIdentity, reason: str) -> None:
        """Keeps why a build failed; where that can't be written, the next start builds again."""
        failure = Failure(identity=identity, reason=reason, at=datetime.now(timezone.utc))
        self._drop_old()
        try:
            write_bytes(self._path(identity), failure.model_dump_json().encode())
        except OutputError as error:
            log.warning("the failed build can't be remembered: %s", error)

    def find(self, identity: EngineIdentity) -> Failure | None:
        """Returns the failure of exactly this build within the last day, if there is one."""
        failure = _read(self._path(identity))
        return failure if failure and failure.identity == identity and _is_fresh(failure) else None

    def forget(self, identity: EngineIdentity) -> None:
        """Drops the failure of a build that has succeeded since."""
        with contextlib.suppress(OSError):
            self._path(identity).unlink()

    def _drop_old(self) -> None:
        for path in self._folder.glob("*.failed"):
            failure = _read(path)
            if failure is None or not _is_fresh(failure):
                with contextlib.suppress(OSError):
                    path.unlink()

    def _path(self, identity: EngineIdentity) -> Path:
        return self._folder / f"{identity.key}.failed"


def _read(path: Path) -> Failure | None:
    try:
        return Failure.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None


def _is_fresh(failure: Failure) -> bool:
    """Whether it is less than a day old; one from the future is of a clock that was wrong."""
    return abs(datetime.now(timezone.utc) - failure.at) < RETRY_AFTER
