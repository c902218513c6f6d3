"""The life cycle of everything that owns a thread, and the waits between its attempts."""

from __future__ import annotations

import logging
import random
import threading
from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor

log = logging.getLogger(__name__)

STOP_S = 2.0
"""Default time for a service to stop, in seconds."""
LOGGED = 20
"""Largest number of different unexpected errors that a service logs: it may retry for months."""


class Service(ABC):
    """Runs `_run` in a daemon thread from `start` to `stop`.

    A subclass implements `_run`, which must return soon after `_stopping` is set.

    Args:
        thread: Name of the thread, as debuggers show it.

    Example:
        >>> class Heartbeat(Service):
        ...     def _run(self) -> None:
        ...         while not self._stopping.wait(1.0):
        ...             print("alive")
    """

    def __init__(self, thread: str) -> None:
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=thread, daemon=True)
        self._logged: set[str] = set()

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Starts the thread; call it once."""
        self._thread.start()

    def stop(self, timeout_s: float = STOP_S) -> None:
        """Ends the thread, and waits for it; may be called before `start`, and again.

        Args:
            timeout_s: Longest wait; a thread that hangs is left behind.
        """
        self._stopping.set()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(timeout_s)

    @abstractmethod
    def _run(self) -> None: ...

    def _log_once(self, text: str, error: Exception) -> None:
        """Logs an unexpected error with its traceback: each once, and `LOGGED` different ones."""
        kind = f"{type(error).__name__}: {error}"
        if kind not in self._logged and len(self._logged) < LOGGED:
            log.error("%s", text, exc_info=error)
            self._logged.add(kind)


def stop_all(services: Collection[Service], timeout_s: float = STOP_S) -> None:
    """Stops services at the same time, so that one that hangs does not hold up the others."""
    with ThreadPoolExecutor(max_workers=len(services) or 1) as pool:
        stopping = [pool.submit(service.stop, timeout_s) for service in services]
    for one in stopping:
        if (error := one.exception()) is not None:  # the others are stopped all the same
            log.error("a service failed to stop", exc_info=error)


STEPS_S = (0.0, 0.2, 0.5, 1.0, 2.0)
"""Waits before the attempts to open a camera or to start an engine."""


class Backoff:
    """Backoff up to a limit, jittered so that many clients do not retry in lockstep.

    Args:
        steps_s: The longest wait before each attempt, in seconds; the last one is repeated.
        jitter: Largest share of a wait that is left out at random, 0..1.

    Example:
        >>> backoff = Backoff()
        >>> while not connect():
        ...     time.sleep(backoff.next_s())
        >>> backoff.reset()
    """

    def __init__(self, steps_s: Sequence[float] = STEPS_S, jitter: float = 0.2) -> None:
        self._steps_s, self._jitter = steps_s, jitter
        self._attempts = 0

    def next_s(self) -> float:
        """Returns the seconds to wait before the next attempt, and counts it."""
        step = self._steps_s[min(self._attempts, len(self._steps_s) - 1)]
        self._attempts += 1
        return step * (1 - self._jitter * random.random())  # noqa: S311 - no secret

    def reset(self) -> None:
        """Begins again with the first step, after a success."""
        self._attempts = 0
