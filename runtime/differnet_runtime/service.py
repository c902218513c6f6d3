"""The life cycle of everything that owns a thread: start, alive, stop within a time."""

from __future__ import annotations

import logging
import threading
from abc import ABC, abstractmethod
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor

log = logging.getLogger(__name__)

STOP_S = 2.0
"""Default time for a service to stop, in seconds."""


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


def stop_all(services: Collection[Service], timeout_s: float = STOP_S) -> None:
    """Stops services at the same time, so that one that hangs does not hold up the others."""
    with ThreadPoolExecutor(max_workers=len(services) or 1) as pool:
        stopping = [pool.submit(service.stop, timeout_s) for service in services]
    for one in stopping:
        if (error := one.exception()) is not None:  # the others are stopped all the same
            log.error("a service failed to stop", exc_info=error)
