"""The capture process: `python -m differnet_runtime.capture.child START`.

The camera is opened, read and released here, in one thread. A source that can't be opened, or
that says it has ended, is tried again; one that hangs keeps this process, until the daemon ends it.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
from dataclasses import astuple, replace

from ..cameras import Camera
from ..cameras.base import no_room
from ..cameras.remembered import Remembered
from ..cameras.repetition import Repetition
from ..cameras.sources import open_source
from ..errors import CameraError, ImageReadError
from ..processes import tie_to
from ..sentences import sentence
from .backoff import Backoff
from .link import DaemonGone, Link
from .messages import MOST_TEXT, PACKET, Ended, Gone, Later, Lost, Opened, Source, Start, Trying
from .pictures import read_written
from .shown import read_shown

_MOST_TRIES = 200
"""Then a new process takes over, in case that a library loses memory with each."""

log = logging.getLogger(__name__)


def main() -> None:
    """Reads the source that the daemon names until it closes the socket."""
    start = Start.model_validate_json(sys.argv[1])
    tie_to(start.parent)
    signal.signal(signal.SIGTERM, _end)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    with socket.socket(fileno=start.channel) as channel:
        packet = channel.recv(PACKET)
        if not packet:
            return
        source = Source.model_validate_json(packet)
        try:
            _Capture(source, Link(channel, source.live)).run()
        except (DaemonGone, SystemExit):
            return


def _end(_signal: int, _frame: object) -> None:
    """Leaves what is being read: the camera is then closed as it should be."""
    raise SystemExit


class _Capture:
    def __init__(self, source: Source, link: Link) -> None:
        self._source, self._link = source, link
        self._backoff, shown = Backoff(), read_shown(source)
        self._repetition = Repetition(shown.image, shown.since_ns) if shown else Repetition()
        self._seen = Remembered(
            settled=link.settled,
            trying=self._trying,
            later=self._later,
            gone=self._gone,
            pause=link.idle,
        )
        read_written(source.seen, self._seen)

    def run(self) -> None:
        for _ in range(_MOST_TRIES):
            try:
                self._read_source()
            except CameraError as error:
                self._link.send(Lost(text=str(error)[:MOST_TEXT]))
            self._link.idle(self._backoff.next_s())

    def _read_source(self) -> None:
        source = self._source
        room = self._link.room if source.live else no_room
        with open_source(source.config, skip=source.skip, seen=self._seen, room=room) as camera:
            settings = tuple(astuple(setting) for setting in camera.settings)
            self._link.send(Opened(settings=settings))
            if source.live:
                self._give_newest(camera)
            else:
                self._give_all(camera)

    def _give_newest(self, camera: Camera) -> None:
        while True:
            try:
                frame = camera.read()
            except ImageReadError as error:
                log.warning("%s", error)
                continue
            if frame is None:
                raise CameraError(sentence("source_ended", source=camera.describe()))
            self._backoff.reset()
            # Here, where every frame is seen: few of them may be judged.
            self._link.frame(replace(frame, unchanged_s=self._repetition.seconds(frame)))

    def _give_all(self, camera: Camera) -> None:
        while True:
            self._link.wait_free()  # before the read, so that the stamps are fresh when it is taken
            try:
                frame = camera.read()
            except ImageReadError as error:
                self._link.unreadable(error)
                continue
            if frame is None:
                self._link.send(Ended())
                self._link.idle(float("inf"))
                return
            self._backoff.reset()
            while not self._link.frame(frame):
                self._link.wait_free()

    def _trying(self, name: str, key: str) -> None:
        self._link.send(Trying(name=name, key=key))

    def _later(self, key: str) -> None:
        self._link.send(Later(key=key))

    def _gone(self, keys: tuple[str, ...]) -> None:
        self._link.send(Gone(keys=keys))


if __name__ == "__main__":
    main()
    os._exit(0)  # a camera's libraries may fault when they are unloaded
