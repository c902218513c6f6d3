"""Child processes that may crash or hang: how they are started, talked to, watched and ended.

`Child` is the parent's side. The child is a module of ours, run by `python -m`, that calls
`join_parent` first. Between them lies a socket pair, on which each packet is one JSON message.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import logging
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, TypeAdapter

from .sentences import sentence
from .text import printable

PACKET = 65536
"""Greatest message in bytes."""

_LIBC = ctypes.CDLL(None)
"""Opened at once: a process that was just forked, as for `die_with_parent`, must not open it."""
_PR_SET_PDEATHSIG, _M_ARENA_MAX = 1, -8
_OOM_SCORE = Path("/proc/self/oom_score_adj")
_BEFORE_THE_PARENT, _FIRST_OF_ALL = "500", "1000"
_IN_MEMORY = Path("/dev/shm")  # noqa: S108 - only a parent folder; mkdtemp makes a private one
_POLL_S = 0.1
_REAP_S = 1.0
_LAST_LINES, _LOGGED_LINES = 5, 50
_NUMBER = re.compile(r"(0x)?[0-9a-f]*[0-9][0-9a-f]*")
_TRACE = ("  File", "Extension modules", "Current thread", "Thread ")
"""Prefixes of the lines of a crash dump that are logged, but not quoted in messages."""

T = TypeVar("T")

log = logging.getLogger(__name__)


class Child:
    """A child process, from its start to its end, with an empty private working folder.

    Start it from a thread that outlives it: the kernel ends it with that thread.

    Args:
        module: What `python -m` runs.
        argument: Text that the child gets from `join_parent`; every user of the machine can read
            it, so it must hold no secret.
        title: What the process is called in messages: `the engine process`.
        pass_fds: Other descriptors that it inherits.
        environment: Variables in addition to this process's.
        redact: Removes passwords from what the child writes to standard error.
        heard: Called with each line that the child writes, in a separate thread.
        group: Whether it leads its own process group, which is killed with it.
        level: Log level of what the child writes; repeated lines are logged as DEBUG.
        within: Parent of its working folder; None for the system's temporary folder.

    Raises:
        OSError: No process can be started.

    Example:
        >>> with closing(Child("package.child", title="the child")) as child:  # doctest: +SKIP
        ...     child.send(request)
        ...     answer = child.receive(ANSWER, timeout_s=1.0)
    """

    def __init__(
        self,
        module: str,
        argument: str = "",
        *,
        title: str,
        pass_fds: tuple[int, ...] = (),
        environment: dict[str, str] | None = None,
        redact: Callable[[str], str] = str,
        heard: Callable[[str], object] = lambda _: None,
        group: bool = False,
        level: int = logging.INFO,
        within: Path | None = None,
    ) -> None:
        self._title, self._redact, self._heard = title, redact, heard
        self._group, self._new_level = group, level
        self._logged: deque[str] = deque(maxlen=_LOGGED_LINES)
        self.last_lines: deque[str] = deque(maxlen=_LAST_LINES)
        """What the process wrote last, for messages."""
        self.channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs, contextlib.ExitStack() as undo:
            undo.callback(self.channel.close)
            self._folder = _private_folder(within)
            undo.callback(self._remove_folder)
            channel, parent = str(theirs.fileno()), str(os.getpid())
            self._process = subprocess.Popen(  # noqa: S603 - this Python, our own module
                [sys.executable, "-m", module, channel, parent, argument],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                pass_fds=(theirs.fileno(), *pass_fds),
                cwd=self._folder,  # a relative path finds nothing there, nor does `-m`
                env={**os.environ, **(environment or {})},
                start_new_session=group,
            )
            undo.pop_all()
        self._reader = threading.Thread(target=self._read_errors, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    @property
    def code(self) -> int | None:
        """Its exit code, negative where a signal ended it; None while it runs."""
        return self._process.poll()

    @property
    def said(self) -> str | None:
        """The last line that it wrote, or None."""
        return self.last_lines[-1] if self.last_lines else None

    def send(self, message: BaseModel) -> None:
        """Sends a message.

        Raises:
            OSError: The process has ended.
        """
        send(self.channel, message)

    def receive(self, messages: TypeAdapter[T], timeout_s: float) -> T | None:
        """Returns the next message, or None if none comes in time.

        Raises:
            EOFError: The process has closed its end.
            OSError: It has ended.
            ValidationError: It sent something else.
        """
        self.channel.settimeout(max(timeout_s, 1e-6))
        try:
            packet = self.channel.recv(PACKET)
        except TimeoutError:
            return None
        if not packet:
            raise EOFError
        return messages.validate_json(packet)

    def wait(self, timeout_s: float | None = None) -> int | None:
        """Waits for the end and the last lines; returns the exit code, None while it runs."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout_s)
            self._reader.join(_POLL_S)
        return self.code

    def death(self) -> str:
        """Returns in words how the process ended, and what it said last."""
        ended = _ending(self._title, self.wait(_POLL_S))
        said = " | ".join(self.last_lines)
        return f"{ended}; {sentence('it_said', text=said)}" if said else ended

    def end(self, within_s: float) -> None:
        """Asks the process to end by SIGTERM; kills it if it has not ended in time."""
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(within_s)
        self.kill()

    def kill(self) -> None:
        """Ends the process at once; one that the kernel can't end (in a driver) is left behind."""
        if self._group:
            with contextlib.suppress(OSError):  # all of it has ended
                os.killpg(self.pid, signal.SIGKILL)
        self._process.kill()
        with contextlib.suppress(OSError):
            self.channel.shutdown(socket.SHUT_RDWR)  # wakes whoever waits for an answer
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_REAP_S)
        self._reader.join(_REAP_S)
        self._remove_folder()

    def close(self) -> None:
        """Kills the process and closes the channel."""
        self.kill()
        self.channel.close()

    def _remove_folder(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)

    def _read_errors(self) -> None:
        assert self._process.stderr is not None, "it is a pipe"
        with self._process.stderr as lines:
            for line in lines:
                text = printable(self._redact(line.decode("utf-8", "replace").rstrip()))
                if text and not text.startswith(_TRACE):
                    self.last_lines.append(text)
                    self._heard(text)
                log.log(self._level(text), "%s %d: %s", self._title, self.pid, text)

    def _level(self, text: str) -> int:
        """Returns DEBUG for a line that differs from an earlier one only in its numbers."""
        shape = _NUMBER.sub("#", text)
        if shape in self._logged:
            return logging.DEBUG
        self._logged.append(shape)
        return self._new_level


def send(channel: socket.socket, message: BaseModel) -> None:
    """Sends a message, as one packet.

    Raises:
        OSError: The other end is closed.
    """
    channel.send(message.model_dump_json().encode())


def join_parent() -> tuple[socket.socket, str]:
    """Called first in a child: ties its life to its parent's.

    It ends when the parent does, is killed before the parent when memory runs out, leaves
    interrupts at the terminal to the parent, and writes what libraries print to standard error.

    Returns:
        The child's end of the channel, and the argument given to `Child`.
    """
    channel, parent, argument = sys.argv[1:]
    os.dup2(2, 1)
    faulthandler.enable()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    die_with_parent()
    if os.getppid() != int(parent):  # it has ended before that call
        os._exit(1)
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    with contextlib.suppress(OSError):
        _OOM_SCORE.write_text(_BEFORE_THE_PARENT)
    return socket.socket(fileno=int(channel)), argument


def die_with_parent() -> None:
    """Has the kernel kill this process when the thread that started it ends."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def give_way() -> None:
    """Gives this process the lowest CPU priority; when memory runs out, it is killed first."""
    os.nice(19)
    give_up_first()


def give_up_first() -> None:
    """Has the kernel kill this process before any other when memory runs out."""
    with contextlib.suppress(OSError):
        _OOM_SCORE.write_text(_FIRST_OF_ALL)


def share_freed_memory() -> None:
    """Has all threads allocate from one arena, so that memory freed by one serves the others.

    By default glibc has an arena for each thread, which keeps what was freed there: tens of MiB for
    every thread that once read a model file.
    """
    with contextlib.suppress(AttributeError, OSError):  # no other C library has this
        _LIBC.mallopt(_M_ARENA_MAX, 1)


def return_memory() -> None:
    """Returns freed memory to the system, as after a model file was read."""
    with contextlib.suppress(AttributeError, OSError):
        _LIBC.malloc_trim(0)


def _private_folder(within: Path | None) -> Path:
    """Makes an empty folder that only this user can open, in memory if no disk has room for it."""
    try:
        return Path(tempfile.mkdtemp(prefix="differnet-", dir=within))
    except OSError:
        return Path(tempfile.mkdtemp(prefix="differnet-", dir=_IN_MEMORY))


def _ending(process: str, code: int | None) -> str:
    if code is None:
        return sentence("process_closed", process=process)
    with contextlib.suppress(ValueError):
        name = signal.Signals(-code).name
        return sentence("process_killed", process=process, signal=name)
    return sentence("process_ended", process=process, status=code)
