"""Whoever asks too fast waits; nobody waits for others."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest
from starlette.types import Message, Receive, Scope, Send

from differnet_runtime.web import guard as pace
from differnet_runtime.web.answers import Troubles
from differnet_runtime.web.guard import BURST, PER_S, Access, Guard, Pace


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_a_sender_that_asks_too_fast_is_slowed_down_and_no_other() -> None:
    clock = Clock()
    paced = Pace(clock)
    assert [paced.wait_s("a") for _ in range(int(BURST))] == [0.0] * int(BURST)
    waits = [paced.wait_s("a") for _ in range(100)]
    assert waits == pytest.approx([number / PER_S for number in range(100)])
    assert paced.wait_s("b") == 0.0
    clock.now_s += 100 / PER_S
    assert paced.wait_s("a") == pytest.approx(0.0)
    clock.now_s += 3600
    assert [paced.wait_s("a") for _ in range(int(BURST))] == [0.0] * int(BURST)


def test_the_number_of_senders_that_are_remembered_is_bounded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pace, "_MOST_PACED", 3)
    paced = Pace(Clock())
    for sender in "ab":
        waits = [paced.wait_s(sender) for _ in range(int(BURST) + 2)]
        assert waits[-1] > 0.0
    for sender in "cd":
        paced.wait_s(sender)
    assert paced.wait_s("b") > 0.0
    assert paced.wait_s("a") == 0.0, "who was silent for longest begins anew"


def test_a_hasty_request_is_answered_late(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def asked() -> list[int]:
        monkeypatch.setattr(pace, "Pace", lambda: Pace(Clock()))
        guard = Guard(app, Access(loopback=True, changes=True, sessions=None), Troubles())
        answers: list[int] = []

        async def send(message: Message) -> None:
            if message["type"] == "http.response.start":
                answers.append(message["status"])

        async def receive() -> Message:
            return {"type": "http.request", "body": b""}

        scope = {
            "type": "http", "http_version": "1.1", "method": "GET", "path": "/livez",
            "raw_path": b"/livez", "query_string": b"", "scheme": "http",
            "client": ("127.0.0.1", 1), "headers": [(b"host", b"localhost")],
        }  # fmt: skip
        for _ in range(int(BURST) + 200):
            await guard(dict(scope), receive, send)
        return answers

    monkeypatch.setattr("differnet_runtime.web.guard.asyncio", SimpleNamespace(sleep=sleep))
    answers = asyncio.run(asked())
    assert answers == [200] * (int(BURST) + 200)
    assert waited == pytest.approx([number / PER_S for number in range(1, 200)])
