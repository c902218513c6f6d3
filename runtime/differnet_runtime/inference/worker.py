"""One engine process as the daemon sees it: started, asked, killed, and not waited for forever."""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass

from pydantic import ValidationError

from ..errors import EngineFault
from ..processes import Child
from ..sentences import sentence
from .memory import SharedMemory
from .messages import ANSWER, PACKET, Failed, Ready, Request, Results, Start
from .records import Model
from .turns import remaining_s

_POLL_S = 0.1


@dataclass
class Pending:
    """The request that the process works on.

    Args:
        id: Its number.
        kill_ns: When the process is taken for hung.
    """

    id: int
    kill_ns: int


class Worker:
    """Owns a process from its start to its end.

    Args:
        model: What it runs.
        backend: `auto`, or a name that `open_backend` knows.
        threads: CPU threads; 0 lets the backend choose.
        memory: Where the frames lie.
        batch: Frames that it is to take together; None leaves that to it.
        gives_way: Whether the process takes the lowest priority; see `processes.give_way`.

    Raises:
        EngineFault: No process can be started.
    """

    def __init__(
        self,
        model: Model,
        backend: str,
        threads: int,
        memory: SharedMemory,
        batch: int | None = None,
        gives_way: bool = False,
    ) -> None:
        self.model = model
        self.ready: Ready | None = None
        self.pending: Pending | None = None
        self._next_id = 0
        self._asking = threading.Lock()
        contract = model.metadata.input

        def start(channel: int) -> str:
            return Start(
                model=model.path,
                model_hash=model.hash,
                backend=backend,
                threads=threads,
                batch=batch,
                height=contract.height,
                width=contract.width,
                channels=contract.channels,
                channel=channel,
                memory=memory.descriptor,
                parent=os.getpid(),
                gives_way=gives_way,
            ).model_dump_json()

        try:
            self._child = Child(
                f"{__package__}.child",
                start,
                title=sentence("engine_process"),
                pass_fds=(memory.descriptor,),
            )
        except OSError as error:
            text = f"no engine process can be started: {error}"
            raise EngineFault("crashed", text) from error
        self._channel = self._child.channel

    @property
    def pid(self) -> int:
        """Process id."""
        return self._child.pid

    def wait_ready(self, timeout_s: float, stop: threading.Event) -> Ready:
        """Waits until the model is loaded and tested.

        Raises:
            EngineFault: It can't be, took too long, or `stop` was set.
        """
        until_ns = time.monotonic_ns() + int(timeout_s * 1e9)
        while not stop.is_set():
            answer = self._receive(min(_POLL_S, remaining_s(until_ns)))
            if isinstance(answer, Ready):
                self.ready = answer
                return answer
            if isinstance(answer, Failed):
                raise EngineFault(answer.code, answer.text)
            if time.monotonic_ns() >= until_ns:
                raise EngineFault("timeout", sentence("engine_not_loaded", waited_s=timeout_s))
        raise EngineFault("starting", sentence("engine_stopped_early"))

    def ask(self, slots: tuple[int, ...], until_ns: int, limit_s: float) -> Results:
        """Has the frames in some slots scored.

        Args:
            slots: Where they lie.
            until_ns: When the caller needs the answer.
            limit_s: How long the process may work on them.

        Raises:
            EngineFault: There is no answer. `overdue` then says whether the process hangs.
        """
        with self._asking:
            return self._ask(slots, until_ns, limit_s)

    def _ask(self, slots: tuple[int, ...], until_ns: int, limit_s: float) -> Results:
        self._finish_pending(until_ns)
        self._next_id += 1
        request = Request(id=self._next_id, slots=slots)
        self.pending = Pending(request.id, time.monotonic_ns() + int(limit_s * 1e9))
        try:
            self._channel.send(request.model_dump_json().encode())
        except OSError as error:
            raise EngineFault("crashed", self._child.death()) from error
        answer = self._answer(until_ns)
        if answer is None:
            raise EngineFault("timeout", sentence("engine_late"))
        return answer

    def drop_late(self) -> None:
        """Throws away the answer to a frame whose caller has given up, if it is there.

        Raises:
            EngineFault: The process has ended.
        """
        if self._asking.acquire(blocking=False):  # else somebody waits for an answer right now
            try:
                self._answer(time.monotonic_ns())
            finally:
                self._asking.release()

    @property
    def overdue(self) -> bool:
        """Whether it has worked on a frame for longer than it may."""
        pending = self.pending
        return pending is not None and time.monotonic_ns() >= pending.kill_ns

    def _finish_pending(self, until_ns: int) -> None:
        """Waits for the answer to a frame whose caller has given up; it is thrown away."""
        if self.pending and self._answer(until_ns) is None:
            raise EngineFault("timeout", sentence("engine_on_earlier"))

    def _answer(self, until_ns: int) -> Results | None:
        while self.pending:
            answer = self._receive(remaining_s(until_ns))
            if answer is None:
                return None
            if isinstance(answer, Results) and answer.id == self.pending.id:
                self.pending = None
                return answer
        return None

    def _receive(self, timeout_s: float) -> Ready | Failed | Results | None:
        try:
            self._channel.settimeout(max(timeout_s, 1e-6))
            packet = self._channel.recv(PACKET)
            if packet:
                return ANSWER.validate_json(packet)
        except TimeoutError:
            return None
        except (OSError, ValidationError) as error:
            raise EngineFault(
                "crashed", f"{self._child.death()} ({type(error).__name__})"
            ) from error
        raise EngineFault("crashed", self._child.death())

    def died(self) -> str | None:
        """Returns how the process ended, or None while it runs."""
        return self._child.died()

    def kill(self) -> None:
        """Ends the process; one that the kernel can't end (in a driver) is left behind."""
        self._child.kill()
        with self._asking:
            self._channel.close()
