"""The engine for a model on this device: the one that is there, or a new one.

Has an engine built in a process of its own: shows how far it is, stops it, says why it died.

Builds that failed, so that a start does not repeat one.

A build takes minutes, a station gives no verdicts meanwhile, and a graph that a version of
TensorRT can't build stays so: https://github.com/NVIDIA/TensorRT/issues/4736 (Orin, 10.3 and
10.7), https://github.com/NVIDIA/TensorRT/issues/4830 (Thor).

A failure lies beside the engines as KEY.failed, KEY being that of the identity.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import IO

from pydantic import ValidationError

from ... import errors
from ...command import progress
from ...errors import (
    BackendError,
    BackendUnavailableError,
    DifferNetError,
    EngineError,
    OutputError,
)
from ...files import write_bytes
from ...model_file.contract import StrictModel
from ...model_file.metadata import ModelMetadata
from .cache import (
    MESSAGE,
    BuildFailed,
    BuildProgress,
    BuildRequest,
    EngineRecord,
    EngineStore,
    Finished,
    engines_folder,
    plan_name,
)
from .identity import BuildOptions, EngineIdentity, identify

_POLL_S = 0.2
_PERCENT = 100
_TOLD_LINES = 5
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


def build_engine(request: BuildRequest, folder: Path, cancel: threading.Event) -> Finished:
    """Builds an engine in a child process; takes from seconds to many minutes.

    Args:
        request: What to build.
        folder: Empty and private, for this build's files.
        cancel: Ends the build when it is set. KeyboardInterrupt does, too.

    Raises:
        EngineError: It can't be built, did not pass, was cancelled, or the child was killed;
            the message says which, with the probable cause.
        DifferNetError: What else the child met: no TensorRT, a full disk.
    """
    log = folder / "log.txt"
    kills = _memory_kills()
    with log.open("wb") as errors_to, _child(request, folder, errors_to) as child:
        finished = _follow(child, cancel, f"building {request.model.name}'s engine")
        code = child.wait()
    if finished is not None and code == 0:
        return finished
    raise EngineError(_cause(code, log, killed_for_memory=_memory_kills() > kills))


@contextlib.contextmanager
def _child(
    request: BuildRequest, folder: Path, errors_to: IO[bytes]
) -> Iterator[subprocess.Popen[bytes]]:
    """Starts the builder, and ends it where this block ends before it."""
    work = folder / "work"
    work.mkdir()
    child = subprocess.Popen(  # noqa: S603 - this Python, our own module
        [
            sys.executable,
            "-m",
            "differnet_runtime.backends.tensorrt.builder",
            request.model_dump_json(),
        ],
        stdin=subprocess.PIPE,  # held open: its end tells the child that this process is gone
        stdout=subprocess.PIPE,
        stderr=errors_to,
        cwd=work,  # a relative path finds nothing there, nor does `-m`
        start_new_session=True,  # an interrupt at the terminal comes to this process alone
    )
    with child:
        try:
            yield child
        finally:
            child.kill()


def _follow(
    child: subprocess.Popen[bytes], cancel: threading.Event, description: str
) -> Finished | None:
    """Shows the progress until the child's answers end; returns the last of them."""
    last: list[Finished] = []

    def percents() -> Iterator[int]:
        shown = 0
        for message in _messages(child, cancel):
            if isinstance(message, BuildFailed):
                raise _error_class(message.error)(message.message)
            if isinstance(message, Finished):
                last.append(message)
            reached = (
                int(message.done * _PERCENT) if isinstance(message, BuildProgress) else _PERCENT
            )
            while shown < reached:
                shown += 1
                yield shown

    for _ in progress(percents(), description, total=_PERCENT, unit="%"):
        pass
    return last[0] if last else None


def _messages(
    child: subprocess.Popen[bytes], cancel: threading.Event
) -> Iterator[BuildProgress | Finished | BuildFailed]:
    lines: queue.Queue[bytes | None] = queue.Queue()
    threading.Thread(target=_read, args=(child, lines.put), daemon=True).start()
    while True:
        try:
            line = lines.get(timeout=_POLL_S)
        except queue.Empty:
            line = b""
        if cancel.is_set():
            raise EngineError("the build was cancelled; what was there before is still there")
        if line is None:
            return
        with contextlib.suppress(ValidationError):  # no answer: nothing, or something's print
            yield MESSAGE.validate_json(line)


def _read(child: subprocess.Popen[bytes], put: Callable[[bytes | None], None]) -> None:
    if child.stdout is not None:
        for line in child.stdout:
            put(line)
    put(None)


def _error_class(name: str) -> type[DifferNetError]:
    found = getattr(errors, name, EngineError)
    known = isinstance(found, type) and issubclass(found, DifferNetError)
    return found if known else EngineError


def _cause(code: int, log: Path, *, killed_for_memory: bool) -> str:
    told = log.read_text("utf-8", "replace").strip().splitlines()[-_TOLD_LINES:]
    last = "\n".join(["", "The last that it said:", *told]) if told else ""
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
    if -code in _CRASHES:
        return (
            f"TensorRT ended the build of the engine with {_CRASHES[signal.Signals(-code)]} "
            f"({signal.Signals(-code).name}). Try another --level; if it stays, the driver and "
            f"TensorRT may not fit together: see `differnet doctor`.{last}"
        )
    return f"the build of the engine ended with code {code} and no result.{last}"


def _memory_kills() -> int:
    """How many processes the kernel has ended for want of memory since it started."""
    try:
        lines = _KERNEL_COUNTERS.read_text().splitlines()
    except OSError:
        return 0
    counts = [line.split()[1] for line in lines if line.startswith("oom_kill ")]
    return int(counts[0]) if counts else 0


RETRY_AFTER = timedelta(days=1)

log = logging.getLogger(__name__)


class Failure(StrictModel):
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
        failure = _read_failure(self._path(identity))
        return failure if failure and failure.identity == identity and _is_fresh(failure) else None

    def forget(self, identity: EngineIdentity) -> None:
        """Drops the failure of a build that has succeeded since."""
        with contextlib.suppress(OSError):
            self._path(identity).unlink()

    def _drop_old(self) -> None:
        for path in self._folder.glob("*.failed"):
            failure = _read_failure(path)
            if failure is None or not _is_fresh(failure):
                with contextlib.suppress(OSError):
                    path.unlink()

    def _path(self, identity: EngineIdentity) -> Path:
        return self._folder / f"{identity.key}.failed"


def _read_failure(path: Path) -> Failure | None:
    try:
        return Failure.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None


def _is_fresh(failure: Failure) -> bool:
    """Whether it is less than a day old; one from the future is of a clock that was wrong."""
    return abs(datetime.now(timezone.utc) - failure.at) < RETRY_AFTER


@dataclass(frozen=True)
class BuiltEngine:
    """An engine that passed.

    Args:
        plan: TensorRT's bytes; their hash was checked.
        record: What is known of it: identity, smoke test, audit.
        folder: Where it lies.
        new: It was built just now.
        updates: What has changed since it was built and does not keep it from running: a newer
            driver, mostly.
    """

    plan: bytes
    record: EngineRecord
    folder: Path
    new: bool
    updates: tuple[str, ...] = ()

    @property
    def identity(self) -> EngineIdentity:
        """What it was built from, for and with."""
        return self.record.identity

    @property
    def path(self) -> Path:
        """The plan's file."""
        return self.folder / self.record.plan

    def discard(self) -> None:
        """Drops it, so that the next `ensure_engine` builds another."""
        EngineStore(self.folder).discard(self.record)


def ensure_engine(
    path: Path,
    model: bytes,
    metadata: ModelMetadata,
    *,
    batch: int = 1,
    options: BuildOptions | None = None,
    force: bool = False,
    cancel: threading.Event | None = None,
) -> BuiltEngine:
    """Returns the engine of a model file for this device; builds it where there is none.

    Building takes from seconds to many minutes. It runs in a child process, and its progress is
    shown on standard error. Of two processes that need the same engine, one builds and the other
    waits. A build that failed is tried again a day later, for another identity, or by `force`.

    Args:
        path: The model file; its engines lie in `<path>.engines/`, or below DIFFERNET_ENGINES.
        model: Its bytes.
        metadata: Its metadata.
        batch: Frames that the engine takes at once; one that takes more is found, too.
        options: How to build; None takes an engine that was built in any way, or the defaults.
        force: Build also where a fitting engine is there, or the last build failed.
        cancel: Stops a build, or the wait for another's, when it is set.

    Raises:
        BackendUnavailableError: There is no GPU, or TensorRT or pycuda is missing.
        EngineError: It can't be built, did not pass, or failed within the last day; the old one,
            if any, is still there.
        OutputError: The folder can't be written.
    """
    wanted = identify(model, metadata, batch, options or BuildOptions())
    store = EngineStore(engines_folder(path, wanted.graph_sha256))
    any_flags = options is None
    if not force:
        found = _find(store, wanted, any_flags=any_flags)
        if found is not None:
            return found
    with store.lock(cancel := cancel or threading.Event()):
        found = None if force else _find(store, wanted, any_flags=any_flags)
        if found is not None:
            return found  # another process built it meanwhile
        if not force:
            _refuse_again(store, path, wanted)
        _say_why(store, path, wanted, any_flags=any_flags)
        _build(store, path, wanted, cancel)
    built = _find(store, wanted, any_flags=False)
    if built is None:
        raise EngineError(
            f"the engine in {store.folder} was written, but is not read back the same"
        )
    return BuiltEngine(built.plan, built.record, built.folder, new=True)


def _find(store: EngineStore, wanted: EngineIdentity, *, any_flags: bool) -> BuiltEngine | None:
    for place in (store, *store.neighbours()):
        # The one with the fewest spare frames: its kernels were chosen for about as many.
        for record in sorted(place.records(), key=lambda record: record.identity.batch):
            if not record.identity.differences(wanted, flags=not any_flags):
                plan = place.plan(record)
                if plan is not None:
                    return _taken(BuiltEngine(plan, record, place.folder, new=False), wanted)
    return None


def _taken(engine: BuiltEngine, wanted: EngineIdentity) -> BuiltEngine:
    updates = tuple(engine.identity.updates(wanted))
    if updates:
        log.info("%s is kept over an update (%s)", engine.path.name, "; ".join(updates))
    return replace(engine, updates=updates)


def _refuse_again(store: EngineStore, path: Path, wanted: EngineIdentity) -> None:
    """Refuses to repeat a build that failed within the last day.

    Raises:
        EngineError: It did; says when and why.
    """
    failure = Failures(store.folder).find(wanted)
    if failure is not None:
        again = failure.at + RETRY_AFTER
        raise EngineError(
            f"the build of {path.name}'s engine failed at {failure.at:%Y-%m-%d %H:%M} UTC, and is "
            f"tried again after {again:%Y-%m-%d %H:%M} UTC, or now by `differnet engine {path} "
            f"--force`. It failed because: {failure.reason}"
        )


def _say_why(store: EngineStore, path: Path, wanted: EngineIdentity, *, any_flags: bool) -> None:
    """Names what keeps the nearest engine from being used."""
    differences = [
        record.identity.differences(wanted, flags=not any_flags) for record in store.records()
    ]
    nearest = min((fields for fields in differences if fields), key=len, default=None)
    if nearest is not None:
        log.warning(
            "the engine beside %s does not fit (%s); building another, which may take minutes",
            path.name,
            "; ".join(nearest),
        )


def _build(store: EngineStore, path: Path, wanted: EngineIdentity, cancel: threading.Event) -> None:
    """Builds and saves; remembers what the device, TensorRT or the graph is the cause of."""
    failures = Failures(store.folder)
    try:
        _build_and_save(store, path, wanted, cancel)
    except BackendUnavailableError:
        raise
    except BackendError as error:
        if not cancel.is_set():
            failures.remember(wanted, str(error))
        raise
    failures.forget(wanted)


def _build_and_save(
    store: EngineStore, path: Path, wanted: EngineIdentity, cancel: threading.Event
) -> None:
    start = time.monotonic()
    with store.building() as folder:
        request = BuildRequest(
            model=path.absolute(),
            identity=wanted,
            plan=folder / "plan",
            timing_cache=store.timing_cache(wanted),
        )
        finished = build_engine(request, folder, cancel)
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
