"""Runs the programs of a training, which may crash, take too much memory or be cancelled.

The memory that is free for a training, and the memory that a training takes.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ..errors import DifferNetError, TeachError
from ..processes import Child
from ..sentences import sentence
from .steps import Step

_MEMINFO, _PROC, _GROUPS = Path("/proc/meminfo"), Path("/proc"), Path("/sys/fs/cgroup")
_OWN_GROUP = Path("/proc/self/cgroup")
MIB = 1 << 20


def free_bytes() -> int | None:
    """Returns the free memory, of the machine or of the tightest control group around this process.

    None if it can't be determined.
    """
    found = []
    with contextlib.suppress(OSError, ValueError, StopIteration):
        lines = _MEMINFO.read_text().splitlines()
        line = next(line for line in lines if line.startswith("MemAvailable:"))
        found.append(int(line.split()[1]) << 10)
    with contextlib.suppress(OSError, StopIteration):
        lines = _OWN_GROUP.read_text().splitlines()
        name = next(line for line in lines if line.startswith("0::")).removeprefix("0::/")
        folder = _GROUPS / name
        for group in (folder, *folder.parents):
            if group.is_relative_to(_GROUPS):
                found += _free_in(group)
    return max(0, min(found)) if found else None


def _free_in(group: Path) -> list[int]:
    """Returns what a control group has left; empty if it has no limit."""
    with contextlib.suppress(OSError, ValueError):
        bound = int((group / "memory.max").read_text())  # "max": no limit
        used = int((group / "memory.current").read_text())
        stat = (group / "memory.stat").read_text().splitlines()
        cached = [int(line.split()[1]) for line in stat if line.startswith("inactive_file ")]
        return [bound - used + sum(cached)]
    return []


def taken_bytes(group: int) -> int:
    """Returns the memory of a process group, without mapped files.

    Args:
        group: Id of the process group.
    """
    return sum(_own_bytes(folder) for folder in _processes(group))


def _processes(group: int) -> list[Path]:
    found = []
    for folder in _PROC.iterdir():
        with contextlib.suppress(ValueError, OSError):  # no process, or it has just ended
            if os.getpgid(int(folder.name)) == group:
                found.append(folder)
    return found


def _own_bytes(process: Path) -> int:
    kib = 0
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in (process / "status").read_text(errors="replace").splitlines():
            if line.startswith(("RssAnon:", "RssShmem:")):
                kib += int(line.split()[1])
    return kib << 10


_LOOK_S = 0.1
_SAID_LINES, _TOLD_LINES = 60, 12
_OURS = "differnet: "
"""The beginning of the line with which `differnet` ends after an error."""

Hindrance = Callable[[], str | None]
"""Returns why a training must not go on; None if it may."""

log = logging.getLogger(__name__)


class TrainingProgress:
    """The progress of a training; written by its threads, read by any thread."""

    def __init__(self) -> None:
        self.step, self.done = "starting", 0.0
        self._started = time.monotonic()

    def at(self, step: str, done: float) -> None:
        """Sets the current step and the share of the whole that is done, which never shrinks."""
        self.step, self.done = step, max(self.done, done)

    @property
    def seconds_left(self) -> float | None:
        """Estimated time left; None while too little is done for an estimate."""
        if self.done < 0.1:
            return None
        return (time.monotonic() - self._started) * (1.0 - self.done) / self.done


class CancelledError(Exception):
    """The training was cancelled."""


class TrainingProcess:
    """Runs programs one after the other, in a thread.

    Args:
        steps: The programs, in order.
        environment: Variables for the programs, in addition to the station's.
        folder: The only folder that the programs write to; deleted at the end.
        memory: Bytes that a program and its children may take.
        hindrance: See `Hindrance`; asked while a program runs.
        finish: Called after the last program; if it raises an error, the training has failed.
        ended: Called at the end, with the reason of a failure, a `CancelledError`, or None after
            success.
    """

    def __init__(
        self,
        steps: Sequence[Step],
        environment: Mapping[str, str],
        folder: Path,
        *,
        memory: int,
        hindrance: Hindrance,
        finish: Callable[[], None],
        ended: Callable[[str | CancelledError | None], None],
    ) -> None:
        self._steps, self._environment, self._folder = steps, dict(environment), folder
        self._memory, self._hindrance = memory, hindrance
        self._finish, self._ended = finish, ended
        self.progress = TrainingProgress()
        self._cancelled = threading.Event()
        self._said: deque[str] = deque(maxlen=_SAID_LINES)
        self._thread = threading.Thread(target=self._run, name="training", daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def cancel(self) -> None:
        """Has the running program ended; returns at once."""
        self._cancelled.set()

    def join(self, timeout_s: float) -> None:
        """Waits for the end."""
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def _run(self) -> None:
        why: str | CancelledError | None = None
        try:
            for step in self._steps:
                self._do(step)
            self.progress.at("adding the model to the store", 0.97)
            self._finish()
        except CancelledError as error:
            why = error
        except DifferNetError as error:
            why = str(error)
        except Exception as error:
            log.exception("training")
            why = sentence("bug", error=f"{type(error).__name__}: {error}")
        shutil.rmtree(self._folder, ignore_errors=True)
        self._ended(why)

    def _do(self, step: Step) -> None:
        """Runs a program to its end.

        Raises:
            TeachError: It failed, took too much memory, or must not go on.
            CancelledError: The training was cancelled.
        """
        self._said.clear()
        self.progress.at(step.title, step.begin)
        with contextlib.closing(self._started(step)) as child:
            while (code := child.code) is None:
                if self._cancelled.wait(_LOOK_S):
                    raise CancelledError
                if taken_bytes(child.pid) > self._memory:
                    raise TeachError(sentence("teach_took_memory", most=self._memory // MIB))
                if (why := self._hindrance()) is not None:
                    raise TeachError(sentence("teach_ended", why=why))
            if code:
                child.wait()  # for its last lines
                raise TeachError(self._why(code))

    def _started(self, step: Step) -> Child:
        if self._cancelled.is_set():
            raise CancelledError

        try:
            return Child(
                f"{__package__}.lowly",
                json.dumps(step.command),
                title="the training",
                environment=self._environment,
                heard=lambda line: self._hear(step, line),
                group=True,
            )
        except OSError as error:
            raise TeachError(sentence("teach_not_started", why=error.strerror)) from error

    def _hear(self, step: Step, line: str) -> None:
        found = step.progress(line)
        if found is None:
            self._said.append(line)
        else:
            self.progress.at(*found)

    def _why(self, code: int) -> str:
        """Returns why a program failed, from its last lines."""
        said = list(self._said)
        ours = [number for number, line in enumerate(said) if line.startswith(_OURS)]
        if ours:
            lines = said[ours[-1] : ours[-1] + _TOLD_LINES]
            return "\n".join(lines).removeprefix(_OURS)
        if code == -signal.SIGKILL:
            return sentence("teach_killed")
        last = "; " + sentence("last_line", text=said[-1]) if said else ""
        if code > 0:
            return sentence("teach_exit", status=code) + last
        return sentence("teach_signal", signal=signal.Signals(-code).name) + last
