"""The folder in which the engines of a model are kept, and the failures of builds beside them.

    part.onnx.engines/   or DIFFERNET_ENGINES/<first 16 digits of the graph's hash>/
    |-- KEY.json         the record: identity; the plan's name, hash and size; the reports
    |-- KEY-PLAN.plan    TensorRT's bytes; PLAN is the start of their hash
    |-- KEY.failed       a build that failed, and why
    |-- timing-*.cache   TensorRT's measurements, one for each TensorRT, GPU and driver
    |-- lock             held while an engine is built
    `-- .building-*/     a build at work; what a kill left is removed by the next

A damaged or half-written engine is never used. An engine exists once its record does: the plan is
written first, under a name of its own, so that a build that is killed leaves the old engine intact.

Failures are kept so that a start does not repeat one: a build takes minutes without verdicts, and a
graph that a version of TensorRT can't build stays so
(https://github.com/NVIDIA/TensorRT/issues/4736 on Orin with 10.3 and 10.7,
https://github.com/NVIDIA/TensorRT/issues/4830 on Thor).
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from ...errors import OutputError
from ...files import lock_file, os_errors, write_bytes
from ...model_file.contract import StrictModel
from .audit import AuditReport
from .identity import EngineIdentity

RETRY_AFTER = timedelta(days=1)
"""How long a failed build is not repeated."""
FOLDER_VARIABLE = "DIFFERNET_ENGINES"
_HASH_DIGITS, _PLAN_DIGITS = 16, 8
_SUFFIX = ".engines"
_BUILDING = ".building-"

log = logging.getLogger(__name__)


class SmokeTest(StrictModel):
    """The scores that a new engine gave for the golden frames.

    Args:
        scores: One for each frame.
        relative_difference: Greatest relative difference from the scores in the model file.
        device_memory_bytes: What TensorRT reserves for tensors beside the weights; None in records
            of older versions.
    """

    scores: tuple[float, ...]
    relative_difference: float
    device_memory_bytes: int | None = None


class EngineRecord(StrictModel):
    """The record that is kept beside a plan.

    Args:
        identity: What the engine was built from, for and with.
        plan: File name of the plan.
        plan_sha256: Hash of the plan.
        plan_bytes: Size of the plan.
        created: Date and time of the build, ISO 8601.
        build_s: Seconds that the build took, smoke test and audit included.
        smoke_test: Result of the smoke test.
        audit: Result of the audit.
    """

    format_version: Literal[3] = 3
    identity: EngineIdentity
    plan: str
    plan_sha256: str
    plan_bytes: int
    created: str
    build_s: float
    smoke_test: SmokeTest
    audit: AuditReport


class Failure(StrictModel):
    """A build that failed.

    Args:
        identity: The engine that was to be built.
        reason: Why it failed, as the user was told.
        at: Date and time of the failure.
    """

    identity: EngineIdentity
    reason: str
    at: datetime


def engines_folder(path: Path, sha256: str) -> Path:
    """Returns the folder of a model file's engines; it need not exist.

    Args:
        path: Path of the model file.
        sha256: Hash of its graph, which names the folder where DIFFERNET_ENGINES is set.
    """
    if elsewhere := os.environ.get(FOLDER_VARIABLE):
        return Path(elsewhere).absolute() / sha256[:_HASH_DIGITS]
    return path.absolute().with_name(f"{path.name}{_SUFFIX}")


class EngineStore:
    """The engines in one folder, and the builds that failed.

    Args:
        folder: Folder, which need not exist.
        quiet: Skip engines that can't be used without a warning.

    Example:
        >>> store = EngineStore(engines_folder(Path("part.onnx"), sha256))  # doctest: +SKIP
        >>> [record.identity.gpu for record in store.records()]  # doctest: +SKIP
        ['Orin']
    """

    def __init__(self, folder: Path, *, quiet: bool = False) -> None:
        self.folder, self._quiet = folder, quiet
        self._said: set[str] = set()

    def neighbours(self) -> Iterator[EngineStore]:
        """Yields the stores of the other model files in the same folder.

        A file that was only calibrated again has the same graph, and so the same engine.
        """
        if self.folder.suffix == _SUFFIX:
            for folder in sorted(self.folder.parent.glob(f"*{_SUFFIX}")):
                if folder != self.folder:
                    yield EngineStore(folder, quiet=True)

    def records(self) -> list[EngineRecord]:
        """Returns every record that can be read, the newest first; warns of others."""
        read = map(self._record, sorted(self.folder.glob("*.json")))
        return sorted(filter(None, read), key=lambda record: record.created, reverse=True)

    def _record(self, path: Path) -> EngineRecord | None:
        try:
            return EngineRecord.model_validate_json(path.read_bytes())
        except (OSError, ValidationError) as error:
            self._warn(f"{path} can't be used ({_cause(error)}): its engine is built again")
            return None

    def plan(self, record: EngineRecord) -> bytes | None:
        """Returns the plan of a record; warns and returns None if its size or hash is wrong.

        TensorRT trusts a plan's bytes, and a damaged one can crash the process.
        """
        path = self.folder / Path(record.plan).name
        try:
            plan = path.read_bytes()
        except OSError as error:
            self._warn(f"{path}: {_cause(error)}; the engine is built again")
            return None
        digest = hashlib.sha256(plan).hexdigest()
        if len(plan) == record.plan_bytes and digest == record.plan_sha256:
            return plan
        self._warn(
            f"{path} is damaged: it has {len(plan)} bytes and the hash {digest[:_HASH_DIGITS]}..., "
            f"but its record says {record.plan_bytes} and {record.plan_sha256[:_HASH_DIGITS]}...; "
            "the engine is built again"
        )
        return None

    def _warn(self, text: str) -> None:
        if text not in self._said and not self._quiet:
            self._said.add(text)
            log.warning("%s", text)

    def save(self, plan: Path, record: EngineRecord) -> None:
        """Moves a tested plan here, then removes older ones for the same device and batch.

        Args:
            plan: A file in the folder of `building`.
            record: Record that is kept beside it.

        Raises:
            OutputError: It can't be written; the older engines stay.
        """
        name = self.folder / record.plan
        with os_errors(OutputError, name):
            plan.replace(name)
        write_bytes(self.folder / f"{record.identity.key}.json", record.model_dump_json().encode())
        self._remove_older(record)

    def discard(self, record: EngineRecord) -> None:
        """Drops an engine that turned out not to run, so that it is built again."""
        _remove(self.folder / f"{record.identity.key}.json")

    def _remove_older(self, record: EngineRecord) -> None:
        kept = {
            other.identity.key: other.plan
            for other in self.records()
            if other.identity == record.identity or not other.identity.same_place(record.identity)
        }
        for path in (*self.folder.glob("*.json"), *self.folder.glob("*.plan")):
            if path.stem not in kept and path.name not in kept.values():
                _remove(path)

    def timing_cache(self, identity: EngineIdentity) -> Path:
        """Returns where TensorRT's measurements for this device are kept between builds."""
        device = f"{identity.tensorrt}\n{identity.gpu}\n{identity.cuda_driver}"
        name = hashlib.sha256(device.encode()).hexdigest()[:_HASH_DIGITS]
        return self.folder / f"timing-{name}.cache"

    @contextlib.contextmanager
    def building(self) -> Iterator[Path]:
        """Makes a folder for a build's files, and removes it afterwards; requires the lock."""
        for left in self.folder.glob(f"{_BUILDING}*"):  # by builds that were killed
            shutil.rmtree(left, ignore_errors=True)
        folder = tempfile.mkdtemp(prefix=_BUILDING, dir=self.folder)
        try:
            yield Path(folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Locks the folder against other builds; waits while another process builds.

        The kernel releases the lock when its holder dies.

        Raises:
            OutputError: The folder can't be written.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            try:
                file = lock_file(self.folder / "lock", wait=False)
            except BlockingIOError:
                log.warning("another process builds an engine in %s: waiting for it", self.folder)
                file = lock_file(self.folder / "lock")
        except OSError as error:
            raise OutputError(
                f"{self.folder} can't be written ({error.strerror or error}), and a TensorRT "
                f"engine must be kept. Set {FOLDER_VARIABLE} to a folder that can."
            ) from error
        with file:
            yield

    def remember_failure(self, identity: EngineIdentity, reason: str) -> None:
        """Keeps why a build failed, and drops failures that have expired.

        Where it can't be written, the next start builds again.
        """
        for path in self.folder.glob("*.failed"):
            if _fresh_failure(path) is None:
                _remove(path)
        failure = Failure(identity=identity, reason=reason, at=datetime.now(timezone.utc))
        try:
            write_bytes(self._failure_file(identity), failure.model_dump_json().encode())
        except OutputError as error:
            log.warning("the failed build can't be remembered: %s", error)

    def failure(self, identity: EngineIdentity) -> Failure | None:
        """Returns the failure of exactly this build within the last day, or None."""
        failure = _fresh_failure(self._failure_file(identity))
        return failure if failure and failure.identity == identity else None

    def forget_failure(self, identity: EngineIdentity) -> None:
        """Drops the failure of a build that has succeeded since."""
        _remove(self._failure_file(identity))

    def _failure_file(self, identity: EngineIdentity) -> Path:
        return self.folder / f"{identity.key}.failed"


def plan_name(identity: EngineIdentity, plan_sha256: str) -> str:
    """Returns a plan's file name, which differs between plans of the same identity."""
    return f"{identity.key}-{plan_sha256[:_PLAN_DIGITS]}.plan"


def _cause(error: OSError | ValidationError) -> str:
    if isinstance(error, OSError):
        return error.strerror or str(error)
    first = error.errors()[0]
    place = ".".join(map(str, first["loc"]))
    return f"{place}: {first['msg']}" if place else str(first["msg"])


def _fresh_failure(path: Path) -> Failure | None:
    """Reads a failure less than a day old; one from the future is due to a wrong clock."""
    with contextlib.suppress(OSError, ValidationError):
        failure = Failure.model_validate_json(path.read_bytes())
        if abs(datetime.now(timezone.utc) - failure.at) < RETRY_AFTER:
            return failure
    return None


def _remove(path: Path) -> None:
    """Deletes a file, if it can."""
    with contextlib.suppress(OSError):
        path.unlink()
