"""The fake RTSP camera as tests use it: a real server in a process that can be stopped."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

from tests.fakes.clips import Clip
from tests.servers import free_port, require_rtsp, wait_for_port

SCRIPT = Path(__file__).with_name("rtsp_server.py")


class RtspCamera:
    """Owns the server's process.

    Args:
        clip: What it shows.
        drop: Share of access units that are lost.
        garbage: Share of access units that are random bytes.
        seed: Of the two.
        folder: Shown in place of the clip's own: the same clip, damaged.
    """

    def __init__(
        self,
        clip: Clip,
        *,
        drop: float = 0.0,
        garbage: float = 0.0,
        seed: int = 0,
        folder: Path | None = None,
    ) -> None:
        self.port = free_port()
        self.url = f"rtsp://127.0.0.1:{self.port}/camera"
        self.dropped: list[tuple[int, int]] = []
        """Client and number of each access unit that was lost."""
        self._options = [f"--drop={drop}", f"--garbage={garbage}", f"--seed={seed}"]
        self.clip, self._folder = clip, folder
        self.start()

    def start(self) -> None:
        """Starts it, or starts it again, perhaps with another clip."""
        folder = self._folder or self.clip.folder
        command = [require_rtsp(), str(SCRIPT), str(self.port), str(folder)]
        self._process = subprocess.Popen(
            [*command, *self._options], stdout=subprocess.PIPE, text=True
        )
        self._reader = threading.Thread(target=self._read, args=(self._process,), daemon=True)
        self._reader.start()
        wait_for_port(self.port)

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        with process.stdout as lines:
            for line in lines:
                words = line.split()
                if words[0] == "drop":
                    self.dropped.append((int(words[1]), int(words[2])))

    def freeze(self) -> None:
        """Stops it where it is: its connections stay open and give nothing."""
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Lets it go on."""
        self._process.send_signal(signal.SIGCONT)

    def hang_up(self) -> None:
        """Closes the connections, and takes new ones."""
        self._process.send_signal(signal.SIGUSR1)

    def kill(self) -> None:
        """Ends it at once."""
        self._process.kill()
        self._process.wait()
        self._reader.join(5)


@contextlib.contextmanager
def rtsp_camera(
    clip: Clip,
    *,
    drop: float = 0.0,
    garbage: float = 0.0,
    seed: int = 0,
    folder: Path | None = None,
) -> Iterator[RtspCamera]:
    """Starts a camera, and ends it."""
    camera = RtspCamera(clip, drop=drop, garbage=garbage, seed=seed, folder=folder)
    try:
        yield camera
    finally:
        camera.kill()
