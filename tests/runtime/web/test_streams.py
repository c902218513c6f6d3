"""Verdicts and pictures as they come, for a bounded number of viewers."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
import urllib3

from differnet_runtime.config.models import WebConfig
from differnet_runtime.events import InspectionEvent
from differnet_runtime.web.server import WebServer
from differnet_runtime.web.streams import Viewers
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
                yield int(fields["id"]), InspectionEvent.model_validate_json(fields["data"])


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


def test_too_many_viewers_are_refused_and_places_come_free(
    client: Client, station: FakeStation
) -> None:
    streams = [opened(of_root(client), "/api/cameras/left/live.mjpg") for _ in range(16)]
    refused = client.get("/api/cameras/left/live.mjpg")
    assert refused.status == 503
    assert "16 streams" in json.loads(refused.data)["error"]
    for stream in streams:
        stream.close()

    def free() -> bool:
        with opened(client, "/api/cameras/left/live.mjpg") as stream:
            return stream.status == 200

    wait_for(free)


def of_root(client: Client) -> Client:
    return Client(client.root)


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


def test_a_viewers_place_is_given_back_when_sending_fails() -> None:
    import asyncio

    viewers = Viewers(1, 10)

    async def fail() -> None:
        raise ConnectionResetError

    async def watch() -> None:
        with pytest.raises(ConnectionResetError):
            await viewers.watch(fail)

    asyncio.run(watch())

    async def none() -> None:
        for chunk in ():
            yield chunk

    viewers.stream(none(), "text/plain")  # type: ignore[arg-type]
