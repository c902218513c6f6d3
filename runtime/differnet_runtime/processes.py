"""A process of ours that may crash or hang: started, listened to, and killed without waiting."""

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

from .sentences import sentence
from .text import printable

_PR_SET_PDEATHSIG, _M_ARENA_MAX = 1, -8
_OOM_SCORE = Path("/proc/self/oom_score_adj")
_SOONER_THAN_THE_DAEMON, _FIRST_OF_ALL = "500", "1000"
_LAST = 19
_IN_MEMORY = Path("/dev/shm")  # noqa: S108 - only a parent folder; mkdtemp makes a private one
_POLL_S = 0.1
_REAP_S = 1.0
_TOLD_LINES, _LOGGED_LINES = 5, 50
_NUMBER = re.compile(r"(0x)?[0-9a-f]*[0-9][0-9a-f]*")
_TRACE = ("  File", "Extension modules", "Current thread", "Thread ")
"""How the lines of a crash start that only the log needs."""

log = logging.getLogger(__name__)


def tie_to(parent: int) -> None:
    """Called first in a child: it ends with its parent, and goes before it when memory runs out.

    Args:
        parent: Process id of the daemon, which may have ended already.
    """
    os.dup2(2, 1)  # what libraries print
    faulthandler.enable()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupt at the terminal is the daemon's
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    with contextlib.suppress(OSError):
        _OOM_SCORE.write_text(_SOONER_THAN_THE_DAEMON)


def give_way() -> None:
    """Gives this process the lowest CPU priority; when memory runs out, it is killed first."""
    os.nice(_LAST)
    with contextlib.suppress(OSError):
        _OOM_SCORE.write_text(_FIRST_OF_ALL)


def _private_folder() -> Path:
    """Makes an empty folder of this user's own, in memory where no disk has room for it."""
    try:
        return Path(tempfile.mkdtemp(prefix="differnet-"))
    except OSError:
        return Path(tempfile.mkdtemp(prefix="differnet-", dir=_IN_MEMORY))


class Child:
    """Owns such a process from its start to its end; its working folder is empty and private.

    It must be started by a thread that outlives it: the kernel ends it with that thread.

    Args:
        module: What `python -m` runs.
        start: Given the file descriptor of the child's end of the channel, returns its argument.
        title: What it is, for messages: `the engine process`.
        pass_fds: Other descriptors that it inherits.
        environment: Variables beside ours.
        redact: Takes passwords out of what it says.
        heard: Called with each line that the child writes, in a separate thread.
        group: Whether it leads its own process group, which is killed with it.

    Raises:
        OSError: No process can be started.
    """

    def __init__(
        self,
        module: str,
        start: Callable[[int], str],
        *,
        title: str,
        pass_fds: tuple[int, ...] = (),
        environment: dict[str, str] | None = None,
        redact: Callable[[str], str] = str,
        heard: Callable[[str], None] | None = None,
        group: bool = False,
    ) -> None:
        self._title, self._redact, self._heard, self._group = title, redact, heard, group
        self._logged: deque[str] = deque(maxlen=_LOGGED_LINES)
        self._told: deque[str] = deque(maxlen=_TOLD_LINES)
        self._folder: Path | None = None
        self.channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            try:
                self._folder = _private_folder()
                self._process = subprocess.Popen(  # noqa: S603 - this Python, our own module
                    [sys.executable, "-m", module, start(theirs.fileno())],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                    pass_fds=(theirs.fileno(), *pass_fds),
                    cwd=self._folder,  # a relative path finds nothing there, nor does `-m`
                    env={**os.environ, **(environment or {})},
                    start_new_session=group,
                )
            except OSError:
                self.channel.close()
                self._remove_folder()
                raise
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

    def died(self) -> str | None:
        """Returns how the process ended, or None while it runs."""
        return None if self._process.poll() is None else self.death()

    def death(self) -> str:
        """Returns how the process ended, and what it said last."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_POLL_S)
        code = self._process.poll()
        if code is not None:
            self._reader.join(_POLL_S)
        told = " | ".join(self._told)
        return _ending(self._title, code) + ("; " + sentence("it_said", text=told) if told else "")

    @property
    def said(self) -> str | None:
        """Its last line, or None."""
        return self._told[-1] if self._told else None

    def end(self, within_s: float) -> None:
        """Asks the process to end by SIGTERM; kills it where it has not within the time."""
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

    def _remove_folder(self) -> None:
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _read_errors(self) -> None:
        if self._process.stderr is None:
            return
        with self._process.stderr as lines:
            for line in lines:
                text = printable(self._redact(line.decode("utf-8", "replace").rstrip()))
                if text and not text.startswith(_TRACE):
                    self._told.append(text)
                    if self._heard is not None:
                        self._heard(text)
                log.log(self._level(text), "%s %d: %s", self._title, self.pid, text)

    def _level(self, text: str) -> int:
        """Returns a level that keeps what is said again and again, but for numbers, out of logs."""
        shape = _NUMBER.sub("#", text)
        if shape in self._logged:
            return logging.DEBUG
        self._logged.append(shape)
        return logging.INFO


def share_freed_memory() -> None:
    """Has all threads from now on allocate from one place, where what one has freed serves others.

    glibc has a place for each thread, and each keeps what was freed there: tens of MiB for every
    thread that once read a model file.
    """
    with contextlib.suppress(AttributeError, OSError):  # no other C library has this
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)


def return_memory() -> None:
    """Gives freed memory back to the system, as after a model file was read."""
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)


def _ending(process: str, code: int | None) -> str:
    if code is None:
        return sentence("process_closed", process=process)
    if code < 0:
        with contextlib.suppress(ValueError):
            signal_name = signal.Signals(-code).name
            return sentence("process_killed", process=process, signal=signal_name)
    return sentence("process_ended", process=process, status=code)
