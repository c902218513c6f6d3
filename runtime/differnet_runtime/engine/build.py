"""Has an engine built in a process of its own: shows how far it is, stops it, says why it died."""

from __future__ import annotations

import contextlib
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from pydantic import ValidationError

from .. import errors
from ..command import progress
from ..errors import DifferNetError, EngineError
from .messages import MESSAGE, Failed, Finished, Progress, Request

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


def build_engine(request: Request, folder: Path, cancel: threading.Event) -> Finished:
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
    request: Request, folder: Path, errors_to: IO[bytes]
) -> Iterator[subprocess.Popen[bytes]]:
    """Starts the builder, and ends it where this block ends before it."""
    work = folder / "work"
    work.mkdir()
    child = subprocess.Popen(  # noqa: S603 - this Python, our own module
        [sys.executable, "-m", "differnet_runtime.engine.builder", request.model_dump_json()],
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
            if isinstance(message, Failed):
                raise _error_class(message.error)(message.message)
            if isinstance(message, Finished):
                last.append(message)
            reached = int(message.done * _PERCENT) if isinstance(message, Progress) else _PERCENT
            while shown < reached:
                shown += 1
                yield shown

    for _ in progress(percents(), description, total=_PERCENT, unit="%"):
        pass
    return last[0] if last else None


def _messages(
    child: subprocess.Popen[bytes], cancel: threading.Event
) -> Iterator[Progress | Finished | Failed]:
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
