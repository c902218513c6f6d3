"""The engine for a model on this device: the one that is there, or a new one."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path

from ..errors import BackendError, BackendUnavailableError, EngineError
from ..metadata import ModelMetadata
from .build import build_engine
from .failures import RETRY_AFTER, Failures
from .identity import BuildOptions, EngineIdentity, identify
from .messages import Request
from .store import EngineRecord, EngineStore, engines_folder, plan_name

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Engine:
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
) -> Engine:
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
    return Engine(built.plan, built.record, built.folder, new=True)


def _find(store: EngineStore, wanted: EngineIdentity, *, any_flags: bool) -> Engine | None:
    for place in (store, *store.neighbours()):
        # The one with the fewest spare frames: its kernels were chosen for about as many.
        for record in sorted(place.records(), key=lambda record: record.identity.batch):
            if not record.identity.differences(wanted, flags=not any_flags):
                plan = place.plan(record)
                if plan is not None:
                    return _taken(Engine(plan, record, place.folder, new=False), wanted)
    return None


def _taken(engine: Engine, wanted: EngineIdentity) -> Engine:
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
        request = Request(
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
