"""An RTSP proxy between a client and a camera that drops a share of the UDP packets of video."""

from __future__ import annotations

import contextlib
import random
import re
import select
import socket
import threading
from collections.abc import Iterator
from urllib.parse import urlsplit, urlunsplit

_PORTS = re.compile(rb"client_port=(\d+)-(\d+)")


class LossyNetwork:
    """Passes on one client's connection.

    Args:
        url: Of the camera.
        share: Of packets that are lost.
        seed: Of which.
    """

    def __init__(self, url: str, share: float, seed: int) -> None:
        parts = urlsplit(url)
        self._camera = (parts.hostname or "", parts.port or 554)
        self._share, self._chance = share, random.Random(seed)
        self._server = socket.create_server(("127.0.0.1", 0))
        self.url = urlunsplit(parts._replace(netloc=f"127.0.0.1:{self._server.getsockname()[1]}"))
        self.packets = self.lost = 0
        self._stamps: dict[int, bool] = {}
        """Of each picture, by RTP time stamp and in their order: whether a packet was lost."""
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._over.is_set():
            self._server.settimeout(0.2)
            with contextlib.suppress(OSError):
                client, _ = self._server.accept()
                with (
                    client,
                    socket.create_connection(self._camera) as camera,
                    self._media() as media,
                ):
                    self._pass_on(client, camera, media)

    @contextlib.contextmanager
    def _media(self) -> Iterator[list[socket.socket]]:
        """Two sockets on an even port and the next."""
        with contextlib.ExitStack() as stack:
            pair = None
            while pair is None:
                pair = _bound(stack)
            yield pair

    def _pass_on(
        self, client: socket.socket, camera: socket.socket, media: list[socket.socket]
    ) -> None:
        asked = [0, 0]
        ours = b"client_port=%d-%d" % tuple(one.getsockname()[1] for one in media)
        while not self._over.is_set():
            readable, _, _ = select.select([client, camera, *media], [], [], 0.2)
            if client in readable:
                data = client.recv(65536)
                found = _PORTS.search(data)
                if found is not None:
                    asked = [int(found[1]), int(found[2])]
                if not data:
                    return
                camera.sendall(_PORTS.sub(ours, data))
            if camera in readable:
                data = camera.recv(65536)
                if not data:
                    return
                client.sendall(_PORTS.sub(b"client_port=%d-%d" % tuple(asked), data))
            for port, one in zip(asked, media, strict=True):
                if one in readable:
                    self._packet(one, port, counted=one is media[0])

    def _packet(self, media: socket.socket, port: int, *, counted: bool) -> None:
        data = media.recv(65536)
        self.packets += counted
        is_lost = counted and self._chance.random() < self._share
        if counted:
            stamp = int.from_bytes(data[4:8], "big")
            self._stamps[stamp] = self._stamps.get(stamp, False) or is_lost
        if is_lost:
            self.lost += 1
        else:
            media.sendto(data, ("127.0.0.1", port))

    def lost_pictures(self, most: int) -> frozenset[int]:
        """Returns which of the first pictures lost a packet, counted from the stream's start."""
        lost = list(self._stamps.values())[:most]
        return frozenset(number for number, is_lost in enumerate(lost) if is_lost)

    def close(self) -> None:
        self._over.set()
        self._thread.join(5)
        self._server.close()


def _bound(stack: contextlib.ExitStack) -> list[socket.socket] | None:
    pair = [stack.enter_context(socket.socket(type=socket.SOCK_DGRAM)) for _ in "01"]
    pair[0].bind(("127.0.0.1", 0))
    pair[0].setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    port = pair[0].getsockname()[1]
    if port % 2:
        return None
    try:
        pair[1].bind(("127.0.0.1", port + 1))
    except OSError:
        return None
    return pair


@contextlib.contextmanager
def lossy_network(url: str, share: float, seed: int) -> Iterator[LossyNetwork]:
    """Starts a proxy, and ends it."""
    network = LossyNetwork(url, share, seed)
    try:
        yield network
    finally:
        network.close()
