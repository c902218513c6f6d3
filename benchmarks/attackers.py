"""Strangers who hold a station's page up, each kind in a process of its own.

    python -m benchmarks.attackers silent 127.0.0.1 8787 1100 60

Each kind keeps that many connections open and replaces those that the station closes; `command`
and `tokenless` send commands until that many are answered, whatever the answer. `unread`, `viewer`
and `command` send the token in `$TOKEN`, if there is one. Ends when the time is up, or on SIGTERM
once the number was reached (of commands: once one was answered). Loopback only. Prints how many
were opened or answered, as JSON.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable

SMALL = 2048
_SENDERS = 16
_TOKEN = os.environ.get("TOKEN", "")
_FIRST = b"GET /api/access HTTP/1.1\r\nHost: localhost\r\n\r\n"

Address = tuple[str, int]
enough = threading.Event()
"""Set by SIGTERM."""


def silent(address: Address) -> socket.socket:
    """Says nothing."""
    return socket.create_connection(address, timeout=5)


def half_head(address: Address) -> socket.socket:
    """Sends a whole request, and of a second one its first byte."""
    opened = socket.create_connection(address, timeout=5)
    opened.sendall(_FIRST)
    opened.recv(4096)
    opened.sendall(b"G")
    return opened


def unread(address: Address) -> socket.socket:
    """Asks eight times for the newest kept picture, and reads none."""
    return _deaf(address, f"/api/evidence/{_newest(address)}/image", 8)


def viewer(address: Address) -> socket.socket:
    """Asks for the stream of verdicts, and does not read it."""
    return _deaf(address, "/api/events/stream", 1)


def _deaf(address: Address, path: str, times: int) -> socket.socket:
    opened = socket.socket()
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL)
    opened.settimeout(5)
    opened.connect(address)
    head = [f"GET {path} HTTP/1.1", "Host: localhost", *(f"{k}: {v}" for k, v in _right().items())]
    opened.sendall("\r\n".join([*head, "", ""]).encode() * times)
    return opened


def _right() -> dict[str, str]:
    return {"Authorization": f"Bearer {_TOKEN}"} if _TOKEN else {}


_known: list[str] = []


def _newest(address: Address) -> str:
    if not _known:
        connection = http.client.HTTPConnection(*address, timeout=10)
        connection.request("GET", "/api/evidence?limit=1", headers=_right())
        _known.append(json.load(connection.getresponse())["entries"][0]["id"])
        connection.close()
    return _known[0]


KINDS: dict[str, Callable[[Address], socket.socket]] = {
    "silent": silent,
    "half_head": half_head,
    "unread": unread,
    "viewer": viewer,
}


def hold(kind: str, address: Address, count: int, seconds: float) -> int:
    """Keeps so many connections open; returns how many were opened in all."""
    until, opened = time.monotonic() + seconds, 0
    held: dict[int, socket.socket] = {}
    ended = select.poll()
    while time.monotonic() < until and not (enough.is_set() and opened >= count):
        for number, _ in ended.poll(0):
            ended.unregister(number)
            held.pop(number).close()
        with contextlib.suppress(OSError, IndexError):
            while len(held) < count and time.monotonic() < until:
                one = KINDS[kind](address)
                held[one.fileno()] = one
                ended.register(one, select.POLLRDHUP | select.POLLHUP | select.POLLERR)
                opened += 1
        time.sleep(0.05)
    for one in held.values():
        one.close()
    return opened


def command(address: Address, count: int, seconds: float, right: dict[str, str]) -> int:
    """Sends commands to the camera `command` until so many are answered; returns how many were.

    A command whose connection is refused or dropped is sent again.
    """
    until, sent = time.monotonic() + seconds, [0] * _SENDERS

    def send(number: int) -> None:
        connection = http.client.HTTPConnection(*address, timeout=10)
        headers = {"Content-Type": "application/json", **right}
        while sent[number] < count // _SENDERS and time.monotonic() < until:
            if enough.is_set() and any(sent):
                break
            try:
                connection.request("POST", "/api/cameras/command/trigger", b"{}", headers)
                connection.getresponse().read()
                sent[number] += 1
            except (OSError, http.client.HTTPException):
                connection.close()
                time.sleep(0.05)
        connection.close()

    threads = [threading.Thread(target=send, args=(k,)) for k in range(_SENDERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(sent)


COMMANDS: dict[str, dict[str, str]] = {"command": _right(), "tokenless": {}}


def main() -> None:
    """Attacks; prints a line when it begins and one with what it did."""
    signal.signal(signal.SIGTERM, lambda *_: enough.set())
    print("begun", flush=True)
    kind, host, port, count, seconds = sys.argv[1:]
    address = (host, int(port))
    if kind in COMMANDS:
        done = command(address, int(count), float(seconds), COMMANDS[kind])
    else:
        done = hold(kind, address, int(count), float(seconds))
    print(json.dumps({"kind": kind, "wanted": int(count), "done": done}))


if __name__ == "__main__":
    main()
