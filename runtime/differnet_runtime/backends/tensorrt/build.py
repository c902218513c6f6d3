"""The engine of a model on this device: the one that is there, or a new one.

An engine is built by a child process (`builder`), because a build may take more memory than there
is, and a fault in TensorRT ends its process. Here its progress is shown, and its end is explained.
"""

from __future__ import annotations

import contextlib
import logging
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from ... import errors
from ...command import progress
from ...errors import BackendError, BackendUnavailableError, DifferNetError, EngineError
from ...files import numbers_in
from ...model_file.contract import StrictModel
from ...model_file.metadata import ModelMetadata
from ...processes import Child
from .audit import AuditReport
from .cache import (
    RETRY_AFTER,
    EngineRecord,
    EngineStore,
    SmokeTest,
    engines_folder,
    plan_name,
)
from .identity import BuildOptions, EngineIdentity, identify

_POLL_S = 0.2
_PERCENT = 100
_KERNEL_COUNTERS = Path("/proc/vmstat")
_LESS_MEMORY = (
    "Close the desktop and other programs (on a Jetson `sudo init 3` ends the desktop), give it "
    "less scratch memory with --workspace 256, or a lower --level, and build again."
)
_CRASHES = {
    signal.SIGSEGV: "a memory fault",
    signal.SIGBUS: "a memory fault",
    signal.SIGABRT: "an abort",
    signal.SIGILL: "an illegal instruction",
    signal.SIGFPE: "an arithmetic fault",
}

log = logging.getLogger(__name__)


class BuildRequest(StrictModel):
    """The argument of the builder.

    Args:
        model: Path of the model file.
        identity: What the engine must be; a file that was changed meanwhile is refused.
        plan: Where to write the plan.
        timing_cache: TensorRT's measurements, kept between builds.
    """

    model: Path
    identity: EngineIdentity
    plan: Path
    timing_cache: Path


class BuildProgress(StrictModel):
    """The share of the build that is done, from 0 to 1."""

    kind: Literal["progress"] = "progress"
    done: float


class Finished(StrictModel):
    """The plan is written, and has passed the smoke test and the audit."""

    kind: Literal["finished"] = "finished"
    plan_sha256: str
    plan_bytes: int
    smoke_test: SmokeTest
    audit: AuditReport


class BuildFailed(StrictModel):
    """The engine can't be built.

    Args:
        error: Name of the class in `errors`.
        message: Text of the error.
    """

    kind: Literal["failed"] = "failed"
    error: str
    message: str


_ANSWER: TypeAdapter[BuildProgress | Finished | BuildFailed] = TypeAdapter(
    Annotated[BuildProgress | Finished | BuildFailed, Field(discriminator="kind")]
)


@dataclass(frozen=True)
class BuiltEngine:
    """An engine that passed its tests.

    Args:
        plan: TensorRT's serialized engine; its hash was checked.
        record: Identity, smoke test and audit.
        folder: The folder of its `EngineStore`.
        new: Whether it was built just now.
        updates: What has changed since the build without making the engine unusable, mostly a
            newer driver.
    """

    plan: bytes
    record: EngineRecord
    folder: Path
    new: bool
    updates: tuple[str, ...] = ()

    @property
    def path(self) -> Path:
        """The plan's file."""
        return self.folder / self.record.plan

    def discard(self) -> None:
        """Drops the engine, so that the next `ensure_engine` builds another."""
        EngineStore(self.folder).discard(self.record)


def ensure_engine(
    path: Path,
    model: bytes,
    metadata: ModelMetadata,
    *,
    batch: int = 1,
    options: BuildOptions | None = None,
    force: bool = False,
) -> BuiltEngine:
    """Returns the engine of a model file for this device; builds one if there is none.

    Building takes from seconds to many minutes. It runs in a child process, and its progress is
    shown on standard error. Of two processes that need the same engine, one builds and the other
    waits. A build that failed is tried again a day later, for another identity, or by `force`.

    Args:
        path: The model file; its engines lie in `<path>.engines/`, or below DIFFERNET_ENGINES.
        model: Bytes of the file.
        metadata: Metadata of the file.
        batch: Frames that the engine takes at once, at least.
        options: How to build; None accepts an engine built with any options, and builds with the
            defaults.
        force: Build even if a fitting engine exists, or if the last build failed.

    Raises:
        BackendUnavailableError: There is no GPU, or TensorRT or pycuda is missing.
        EngineError: It can't be built, did not pass, or failed within the last day; an older
            engine is kept.
        OutputError: The folder can't be written.
    """
    wanted = identify(model, metadata, batch, options or BuildOptions())
    store = EngineStore(engines_folder(path, wanted.graph_sha256))
    flags = options is not None
    if not force and (found := _find(store, wanted, flags=flags)) is not None:
        return found
    with store.lock():
        if not force:
            if (found := _find(store, wanted, flags=flags)) is not None:
                return found  # another process built it meanwhile
            _refuse_again(store, path, wanted)
        _say_why(store, path, wanted, flags=flags)
        _build(store, path, wanted)
    if (built := _find(store, wanted, flags=True)) is None:
        raise EngineError(
            f"the engine in {store.folder} was written, but is not read back the same"
        )
    return replace(built, new=True)


def _find(store: EngineStore, wanted: EngineIdentity, *, flags: bool) -> BuiltEngine | None:
    for place in (store, *store.neighbours()):
        # The one with the fewest spare frames: its kernels were chosen for about as many.
        for record in sorted(place.records(), key=lambda record: record.identity.batch):
            if record.identity.differences(wanted, flags=flags):
                continue
            if (plan := place.plan(record)) is not None:
                if updates := tuple(record.identity.updates(wanted)):
                    log.info("%s is kept over an update (%s)", record.plan, "; ".join(updates))
                return BuiltEngine(plan, record, place.folder, new=False, updates=updates)
    return None


def _refuse_again(store: EngineStore, path: Path, wanted: EngineIdentity) -> None:
    """Refuses to repeat a build that failed within the last day.

    Raises:
        EngineError: The build failed; the message says when and why.
    """
    failure = store.failure(wanted)
    if failure is not None:
        again = failure.at + RETRY_AFTER
        raise EngineError(
            f"the build of {path.name}'s engine failed at {failure.at:%Y-%m-%d %H:%M} UTC, and is "
            f"tried again after {again:%Y-%m-%d %H:%M} UTC, or now by `differnet engine {path} "
            f"--force`. It failed because: {failure.reason}"
        )


def _say_why(store: EngineStore, path: Path, wanted: EngineIdentity, *, flags: bool) -> None:
    """Logs what keeps the most similar engine from being used."""
    differences = (record.identity.differences(wanted, flags=flags) for record in store.records())
    nearest = min((fields for fields in differences if fields), key=len, default=None)
    if nearest is not None:
        log.warning(
            "the engine beside %s does not fit (%s); building another, which may take minutes",
            path.name,
            "; ".join(nearest),
        )


def _build(store: EngineStore, path: Path, wanted: EngineIdentity) -> None:
    """Builds and saves an engine; remembers a failure unless it is due to a missing package."""
    start = time.monotonic()
    try:
        with store.building() as folder:
            request = BuildRequest(
                model=path.absolute(),
                identity=wanted,
                plan=folder / "plan",
                timing_cache=store.timing_cache(wanted),
            )
            finished = build_engine(request, folder)
            record = EngineRecord(
                identity=wanted,
                plan=plan_name(wanted, finished.plan_sha256),
                plan_sha256=finished.plan_sha256,
                plan_bytes=finished.plan_bytes,
                created=datetime.now(timezone.utc).isoformat(timespec="milliseconds"),
                build_s=round(time.monotonic() - start, 1),
                smoke_test=finished.smoke_test,
                audit=finished.audit,
            )
            store.save(request.plan, record)
    except BackendError as error:
        if not isinstance(error, BackendUnavailableError):
            store.remember_failure(wanted, str(error))
        raise
    store.forget_failure(wanted)


def build_engine(request: BuildRequest, folder: Path) -> Finished:
    """Builds an engine in a child process; takes from seconds to many minutes.

    Args:
        request: The engine to build.
        folder: In which the child's working folder is made.

    Raises:
        EngineError: It can't be built, did not pass, or the child was killed; the message says
            which, with the probable cause.
        DifferNetError: The child met another error, such as a missing TensorRT or a full disk.
    """
    kills = _memory_kills()
    child = Child(
        f"{__package__}.builder",
        request.model_dump_json(),
        title="the build of the engine",
        group=True,
        level=logging.DEBUG,
        within=folder,
    )
    with contextlib.closing(child):
        finished = _follow(child, f"building {request.model.name}'s engine")
        code = child.wait()
    if finished is not None and code == 0:
        return finished
    raise EngineError(_cause(child, code, killed_for_memory=_memory_kills() > kills))


def _follow(child: Child, description: str) -> Finished | None:
    """Shows the progress until the child's answers end; returns the last of them."""
    finished = None

    def percents() -> Iterator[int]:
        nonlocal finished
        shown = 0
        for answer in _answers(child):
            if isinstance(answer, BuildFailed):
                raise _error_class(answer.error)(answer.message)
            if isinstance(answer, Finished):
                finished = answer
            done = answer.done if isinstance(answer, BuildProgress) else 1.0
            yield from range(shown, reached := max(shown, int(done * _PERCENT)))
            shown = reached

    for _ in progress(percents(), description, total=_PERCENT, unit="%"):
        pass
    return finished


def _answers(child: Child) -> Iterator[BuildProgress | Finished | BuildFailed]:
    with contextlib.suppress(EOFError, OSError):
        while True:
            if (answer := child.receive(_ANSWER, _POLL_S)) is not None:
                yield answer


def _error_class(name: str) -> type[DifferNetError]:
    found = getattr(errors, name, EngineError)
    known = isinstance(found, type) and issubclass(found, DifferNetError)
    return found if known else EngineError


def _cause(child: Child, code: int | None, *, killed_for_memory: bool) -> str:
    last = "\n".join(["", "The last that it said:", *child.last_lines]) if child.said else ""
    if code == -signal.SIGKILL and killed_for_memory:
        return (
            "the kernel ended the build of the engine: this machine's memory was used up "
            f"(out of memory). {_LESS_MEMORY}{last}"
        )
    if code == -signal.SIGKILL:
        return (
            "the build of the engine was killed (SIGKILL). Most often that is the kernel or a "
            f"container's limit, for want of memory; `sudo dmesg` tells. {_LESS_MEMORY}{last}"
        )
    if code is not None and -code in _CRASHES:
        return (
            f"TensorRT ended the build of the engine with {_CRASHES[signal.Signals(-code)]} "
            f"({signal.Signals(-code).name}). Try another --level; if it stays, the driver and "
            f"TensorRT may not fit together: see `differnet doctor`.{last}"
        )
    return f"the build of the engine ended with code {code} and no result.{last}"


def _memory_kills() -> int:
    """Returns how many processes the kernel has killed for lack of memory since it started."""
    return numbers_in(_KERNEL_COUNTERS).get("oom_kill", 0)
