"""Verdicts and pictures as they come, for a bounded number of viewers."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

import pytest
import urllib3

from differnet_runtime.config.models import WebConfig
from differnet_runtime.events import InspectionEvent
from differnet_runtime.web.server import WebServer
from differnet_runtime.web.views import ShownEvent
from tests.fakes.station import FakeStation
from tests.runtime.waiting import wait_for
from tests.runtime.web.client import Client, of


def opened(client: Client, path: str, **headers: str) -> urllib3.BaseHTTPResponse:
    return client.ask("GET", path, headers=headers, preload_content=False)


def messages(stream: urllib3.BaseHTTPResponse) -> Iterator[tuple[int, InspectionEvent]]:
    """Yields the numbers and events of a stream of server-sent events."""
    rest = b""
    for chunk in stream.stream(1 << 16):
        *whole, rest = (rest + chunk).split(b"\n\n")
        for block in whole:
            fields = dict(line.split(": ", 1) for line in block.decode().splitlines())
            if "data" in fields:
                yield int(fields["id"]), ShownEvent.model_validate_json(fields["data"])


def test_verdicts_come_once_and_in_order(client: Client, station: FakeStation) -> None:
    stream = opened(client, "/api/events/stream")
    heard = messages(stream)
    before = [next(heard) for _ in range(3)]
    station.judge("left", part="K7")
    number, event = next(heard)
    assert [one[0] for one in before] == [1, 2, 3]
    assert (number, event.part) == (4, "K7")
    stream.close()


def test_a_browser_that_comes_back_hears_what_it_missed(
    client: Client, station: FakeStation
) -> None:
    stream = opened(client, "/api/events/stream", **{"Last-Event-ID": "2"})
    assert next(messages(stream))[0] == 3
    stream.close()


@pytest.mark.parametrize("last", ["7000", "nonsense"])
def test_one_from_before_a_restart_begins_anew(client: Client, last: str) -> None:
    stream = opened(client, "/api/events/stream", **{"Last-Event-ID": last})
    assert next(messages(stream))[0] == 1
    stream.close()


def test_motion_pictures_are_sent_once_each(client: Client, station: FakeStation) -> None:
    stream = opened(client, "/api/cameras/left/live.mjpg")
    chunks, received = stream.stream(1 << 16), b""
    for pictures in (1, 2):
        while received.count(b"\xff\xd9\r\n") < pictures:
            received += next(chunks)
        station.judge("left")
    stream.close()
    assert received.count(b"--frame\r\nContent-Type: image/jpeg\r\n") == 2


@contextlib.contextmanager
def watching(
    server: WebServer, path: str, count: int, buffer: int = 1 << 18
) -> Iterator[list[socket.socket]]:
    """Opens connections that ask for a stream; the first bytes have come."""
    port = int(server.url.rstrip("/").rpartition(":")[2])
    with contextlib.ExitStack() as stack:
        viewers = []
        for _ in range(count):
            viewer = stack.enter_context(socket.socket())
            viewer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
            viewer.settimeout(20)
            viewer.connect(("127.0.0.1", port))
            viewer.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            assert viewer.recv(12) == b"HTTP/1.1 200"
            viewer.setblocking(False)
            viewers.append(viewer)
        yield viewers


def goes_on(viewer: socket.socket) -> bool:
    """Reads what there is; returns whether the stream goes on."""
    try:
        while viewer.recv(1 << 16):
            pass
    except BlockingIOError:
        return True
    except ConnectionResetError:
        return False
    return False


@pytest.mark.parametrize(
    ("path", "most"), [("/api/cameras/left/live.mjpg", 16), ("/api/events/stream", 32)]
)
def test_where_too_many_watch_the_newest_takes_the_place_of_another(
    server: WebServer, path: str, most: int
) -> None:
    with watching(server, path, most) as viewers, watching(server, path, 1) as newest:
        wait_for(lambda: sum(goes_on(one) for one in viewers) == most - 1)
        assert goes_on(newest[0])


def test_a_viewer_that_does_not_read_gives_way_first(
    server: WebServer, station: FakeStation
) -> None:
    path, held = "/api/cameras/left/live.mjpg", server._connections
    with watching(server, path, 15) as reading, watching(server, path, 1, 2048) as slow:
        name = slow[0].getsockname()

        def unread() -> bool:
            station.judge("left")
            one = held.of(name)
            return all(map(goes_on, reading)) and one is not None and one.unsent() > 4096

        wait_for(unread)
        with watching(server, path, 1) as newest:
            wait_for(lambda: held.of(name) is None)
            assert all(map(goes_on, [*reading, *newest]))


def test_a_stream_ends_so_that_its_viewer_must_ask_again(station: FakeStation) -> None:
    server = WebServer(WebConfig(port=0), station, station.registry, stream_s=0.2)
    server.start()
    client = of(server)
    try:
        for path in ("/api/events/stream", "/api/cameras/left/live.mjpg"):
            assert client.get(path).status == 200
    finally:
        client.close()
        server.stop()
