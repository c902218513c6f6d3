"""Where engines lie, and how a damaged or half-written one is never used.

    part.onnx.engines/   or DIFFERNET_ENGINES/<first 16 digits of the graph's hash>/
    |-- KEY.json         the record: identity; the plan's name, hash and size; the reports
    |-- KEY-PLAN.plan    TensorRT's bytes; PLAN is the start of their hash
    |-- KEY.failed       a build that failed, and why (see `failures`)
    |-- timing-*.cache   TensorRT's measurements, one for each TensorRT, GPU and driver
    |-- lock             held while an engine is built
    `-- .building-*/     a build at work; what a kill left is removed by the next

An engine is there from the moment its record is: the plan is written first, under a name of its
own, so that a build that is killed leaves the old engine as it was.

What the process that builds an engine and the one that waits for it say to each other.

The request is one JSON argument; the answers are JSON lines on standard output. Standard input
says nothing: it ends when the waiting process ends, and then the builder ends too.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import logging
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter, ValidationError

from ...errors import EngineError, OutputError
from ...files import write_bytes
from ...model_file.contract import StrictModel
from .audit import AuditReport
from .identity import EngineIdentity

FOLDER_VARIABLE = "DIFFERNET_ENGINES"
_HASH_DIGITS, _PLAN_DIGITS = 16, 8
_SUFFIX = ".engines"
_POLL_S = 0.2
_BUILDING = ".building-"

log = logging.getLogger(__name__)


class SmokeTest(StrictModel):
    """What a new engine gave for the golden frames.

    Args:
        scores: One for each frame.
        relative_difference: The greatest from the scores in the model file.
        device_memory_bytes: What TensorRT reserves for tensors beside the weights; None in records
            of older versions.
    """

    scores: tuple[float, ...]
    relative_difference: float
    device_memory_bytes: int | None = None


class EngineRecord(StrictModel):
    """What lies beside a plan.

    Args:
        identity: What it was built from, for and with.
        plan: File name of the plan.
        plan_sha256: Hash of its bytes.
        plan_bytes: Their number.
        created: When, ISO 8601.
        build_s: Seconds that the build took, smoke test and audit included.
        smoke_test: What it gave for the golden frames.
        audit: What TensorRT made of the graph.
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


def engines_folder(path: Path, sha256: str) -> Path:
    """Returns the folder of a model file's engines; it need not exist.

    Args:
        path: The model file.
        sha256: Hash of its graph, which names the folder where DIFFERNET_ENGINES is set.
    """
    elsewhere = os.environ.get(FOLDER_VARIABLE)
    if elsewhere:
        return Path(elsewhere).absolute() / sha256[:_HASH_DIGITS]
    return path.absolute().with_name(f"{path.name}{_SUFFIX}")


class EngineStore:
    """The engines in one folder.

    Args:
        folder: It need not exist.
        quiet: Leave out what can't be used without a warning.
    """

    def __init__(self, folder: Path, *, quiet: bool = False) -> None:
        self.folder, self._quiet = folder, quiet
        self._said: set[str] = set()

    def neighbours(self) -> Iterator[EngineStore]:
        """Yields the engines of other files beside the model.

        A file that was only calibrated again has the same graph, and so the same engine.
        """
        if self.folder.suffix == _SUFFIX:
            for folder in sorted(self.folder.parent.glob(f"*{_SUFFIX}")):
                if folder != self.folder:
                    yield EngineStore(folder, quiet=True)

    def records(self) -> list[EngineRecord]:
        """Returns every record that can be read, the newest first; warns of others."""
        read = [self._record(path) for path in sorted(self.folder.glob("*.json"))]
        found = [record for record in read if record is not None]
        return sorted(found, key=lambda record: record.created, reverse=True)

    def _record(self, path: Path) -> EngineRecord | None:
        try:
            return EngineRecord.model_validate_json(path.read_bytes())
        except (OSError, ValidationError) as error:
            self._warn(f"{path} can't be used ({_cause(error)}): its engine is built again")
            return None

    def plan(self, record: EngineRecord) -> bytes | None:
        """Returns a plan whose size and hash are those of its record; else warns, and None.

        TensorRT trusts a plan's bytes, and a damaged one can crash the process: this comes first.
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
        """Takes over a tested plan, then removes the older ones for the same device and batch.

        Args:
            plan: A file in `building`; it is moved.
            record: Its record.

        Raises:
            OutputError: It can't be written; what was there stays.
        """
        name = self.folder / record.plan
        try:
            plan.replace(name)
        except OSError as error:
            raise OutputError(f"{name}: {error.strerror or error}") from error
        write_bytes(self.folder / f"{record.identity.key}.json", record.model_dump_json().encode())
        self._remove_older(record)

    def discard(self, record: EngineRecord) -> None:
        """Drops an engine that turned out not to run, so that it is built again."""
        with contextlib.suppress(OSError):
            (self.folder / f"{record.identity.key}.json").unlink()

    def _remove_older(self, record: EngineRecord) -> None:
        kept = {
            other.identity.key: other.plan
            for other in self.records()
            if other.identity == record.identity or not other.identity.same_place(record.identity)
        }
        for path in (*self.folder.glob("*.json"), *self.folder.glob("*.plan")):
            if path.stem not in kept and path.name not in kept.values():
                with contextlib.suppress(OSError):  # it only takes space
                    path.unlink()

    def timing_cache(self, identity: EngineIdentity) -> Path:
        """Returns where TensorRT's measurements for this device are kept between builds."""
        device = f"{identity.tensorrt}\n{identity.gpu}\n{identity.cuda_driver}"
        name = hashlib.sha256(device.encode()).hexdigest()[:_HASH_DIGITS]
        return self.folder / f"timing-{name}.cache"

    @contextlib.contextmanager
    def building(self) -> Iterator[Path]:
        """Makes a folder for a build's files and removes it after; the lock must be held."""
        for left in self.folder.glob(f"{_BUILDING}*"):
            shutil.rmtree(left, ignore_errors=True)
        folder = Path(tempfile.mkdtemp(prefix=_BUILDING, dir=self.folder))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    @contextlib.contextmanager
    def lock(self, cancel: threading.Event) -> Iterator[None]:
        """Holds the folder against other builds; waits while another process builds.

        The kernel lets go of it when its holder dies.

        Raises:
            EngineError: `cancel` was set.
            OutputError: The folder can't be written.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            file = (self.folder / "lock").open("w")
        except OSError as error:
            raise OutputError(
                f"{self.folder} can't be written ({error.strerror or error}), and a TensorRT "
                f"engine must be kept. Set {FOLDER_VARIABLE} to a folder that can."
            ) from error
        with file:
            _wait_for(file.fileno(), self.folder, cancel)
            yield


def plan_name(identity: EngineIdentity, plan_sha256: str) -> str:
    """Returns a plan's file name: another plan of the same identity has another."""
    return f"{identity.key}-{plan_sha256[:_PLAN_DIGITS]}.plan"


def _wait_for(descriptor: int, folder: Path, cancel: threading.Event) -> None:
    waits = False
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not waits:
                log.warning("another process builds an engine in %s: waiting for it", folder)
            waits = True
        else:
            return
        if cancel.wait(_POLL_S):
            raise EngineError("the build was cancelled while it waited for another process's")


def _cause(error: OSError | ValidationError) -> str:
    if isinstance(error, OSError):
        return error.strerror or str(error)
    first = error.errors()[0]
    place = ".".join(map(str, first["loc"]))
    return f"{place}: {first['msg']}" if place else str(first["msg"])


class BuildRequest(StrictModel):
    """What to build.

    Args:
        model: The model file.
        identity: What the engine must be; a file that was changed meanwhile is refused.
        plan: Where to write the plan.
        timing_cache: TensorRT's measurements, kept between builds.
    """

    model: Path
    identity: EngineIdentity
    plan: Path
    timing_cache: Path


class BuildProgress(StrictModel):
    """How far the build is, from 0 to 1."""

    kind: Literal["progress"] = "progress"
    done: float


class Finished(StrictModel):
    """The plan is written, and passed."""

    kind: Literal["finished"] = "finished"
    plan_sha256: str
    plan_bytes: int
    smoke_test: SmokeTest
    audit: AuditReport


class BuildFailed(StrictModel):
    """It can't be built.

    Args:
        error: Name of the class in `errors`.
        message: Its text.
    """

    kind: Literal["failed"] = "failed"
    error: str
    message: str


Message = Annotated[BuildProgress | Finished | BuildFailed, Field(discriminator="kind")]
MESSAGE: TypeAdapter[BuildProgress | Finished | BuildFailed] = TypeAdapter(Message)
