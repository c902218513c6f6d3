"""Blocking calls beside the event loop, in threads that never hold up a stop."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

T = TypeVar("T")


class Threads:
    """Runs calls in daemon threads: a switch of models may take minutes, and a stop may not.

    Args:
        most: So many calls at once.
    """

    def __init__(self, most: int) -> None:
        self._free = asyncio.Semaphore(most)

    @property
    def busy(self) -> bool:
        """Whether the next call would have to wait."""
        return self._free.locked()

    async def run(self, call: Callable[[], T]) -> T:
        """Returns what the call returns; raises what it raises."""
        await self._free.acquire()
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()

        def settle(give: Callable[[], None]) -> None:
            self._free.release()
            if not future.done():  # else a stop cancelled it
                give()

        def work() -> None:
            try:
                give = partial(future.set_result, call())
            except BaseException as error:  # it is raised where it is awaited
                give = partial(future.set_exception, error)
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(settle, give)

        try:
            threading.Thread(target=work, name="web-call", daemon=True).start()
        except RuntimeError:  # as many threads as the system allows
            self._free.release()
            raise
        return await future


@dataclass(frozen=True)
class Workers:
    """Threads by what they are for, so that one kind of call can't keep another waiting.

    Args:
        reads: Quick calls.
        changes: Slow ones.
        health: What watches the station asks for.
    """

    reads: Threads
    changes: Threads
    health: Threads
