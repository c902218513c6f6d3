"""What happens between two steps of an answer."""

from __future__ import annotations

import asyncio
import threading
from types import SimpleNamespace
from typing import Any

import pytest

from differnet_runtime.events import InspectionEvent
from differnet_runtime.web.live import RecentEvent, RecentEvents
from differnet_runtime.web.routes import EventsQuery
from differnet_runtime.web.routing import Threads
from differnet_runtime.web.streams import _verdicts


def verdict(camera: str) -> InspectionEvent:
    return InspectionEvent(station="line", camera=camera, verdict="GOOD", reject=False)


class Interrupted(RecentEvents):
    """Gets a verdict right after it was first asked for those of a camera."""

    def after(self, *arguments: Any, **named: Any) -> list[RecentEvent]:
        found = super().after(*arguments, **named)
        if self.number == 1:
            self.add(verdict("top"))
        return found


def test_a_verdict_that_comes_while_the_stream_looks_is_sent() -> None:
    recent = Interrupted()
    recent.add(verdict("side"))
    call: Any = SimpleNamespace(
        control=SimpleNamespace(recent=recent),
        request=SimpleNamespace(headers={}),
    )
    query = EventsQuery(camera="top", limit=100)
    looks = iter([True] * 3 + [False])

    async def sent() -> list[bytes]:
        return [chunk async for chunk in _verdicts(call, query, lambda: next(looks))]

    assert [chunk[:5] for chunk in asyncio.run(sent())[1:]] == [b"id: 2"]


def test_calls_go_on_after_the_system_had_no_thread_left(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async def ask() -> int:
        threads = Threads(1)
        with monkeypatch.context() as patched:
            patched.setattr(threading.Thread, "start", none_left)
            with pytest.raises(RuntimeError, match="new thread"):
                await threads.run(lambda: 1)
        return await asyncio.wait_for(threads.run(lambda: 2), 10)

    assert asyncio.run(ask()) == 2
