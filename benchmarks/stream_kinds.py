"""Every kind of damage of streams and videos, and what of it is handed out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from differnet_runtime.cameras.base import Camera
from differnet_runtime.cameras.stream import StreamCamera
from differnet_runtime.cameras.video import VideoCamera
from differnet_runtime.config.models import CameraConfig
from differnet_runtime.errors import CameraError, ImageReadError
from differnet_runtime.records import Image
from tests.fakes import damaged_streams as streams
from tests.fakes.clips import Clip, number_of
from tests.fakes.damaged_streams import Damaged
from tests.fakes.http_camera import MULTIPART, TRANSPORT_STREAM, http_camera, part
from tests.fakes.lossy_network import lossy_network
from tests.fakes.rtsp import rtsp_camera

FRAMES, GOP, SHARE = 1200, 10, 0.2
LOSSES = (0.001, 0.003, 0.01, 0.03)
OTHER = {"width": 400, "height": 304}


@dataclass
class Reference:
    """Every picture as the same decoder gives it when nothing is damaged, by size and number."""

    pictures: dict[tuple[int, ...], list[Image]] = field(default_factory=dict)

    def is_whole(self, image: Image) -> bool:
        """Whether an image is the picture whose number it carries."""
        every, number = self.pictures.get(image.shape, []), number_of(image)
        return number < len(every) and np.array_equal(image, every[number])


@dataclass
class Seen:
    """What came of a stream.

    Args:
        handed: Places of whole pictures that were handed out.
        wrong: How many damaged, old or repeated ones were.
        refused: Number of frames that were marked as damaged.
        reasons: Why, each with its count.
    """

    handed: set[int] = field(default_factory=set)
    wrong: list[int] = field(default_factory=list)
    refused: int = 0
    reasons: dict[str, int] = field(default_factory=dict)


def clip(codec: str, frames: int = FRAMES, **changes: int) -> Clip:
    """Returns the clip that is damaged."""
    how: dict[str, Any] = {"frames": frames, "gop": GOP, "slices": 4, "fps": 60, "codec": codec}
    return Clip(**{**how, **changes})


def watch(camera: Camera, reference: Reference, frames: int, least: int) -> Seen:
    """Takes frames until so many places have passed, or the stream ends."""
    seen, loops, last = Seen(), 0, -1
    with camera:
        while loops * frames + last + 1 < least:
            try:
                frame = camera.read()
            except ImageReadError as error:
                _count(seen, error.cause)
                continue
            except CameraError:
                break
            if frame is None:
                break
            if frame.damage is not None:
                _count(seen, frame.damage)
                continue
            number = number_of(frame.image)
            whole = reference.is_whole(frame.image)
            if whole and number < last - frames // 2:
                loops, last = loops + 1, -1
            if not whole or number <= last:
                seen.wrong.append(loops * frames + number)
                continue
            last = number
            seen.handed.add(loops * frames + number)
    return seen


def _count(seen: Seen, damage: str) -> None:
    seen.refused += 1
    reason = damage if damage.startswith("no key frame") else damage.partition("(")[0]
    reason = "".join(char for char in reason[:70] if not char.isdigit())
    seen.reasons[reason] = seen.reasons.get(reason, 0) + 1


def result_of(seen: Seen, damaged: int, sound: set[int], frames: int) -> dict[str, Any]:
    """Returns the figures of one kind; a frame that refers to a damaged one is damaged, too."""
    sound_seen = len(seen.handed & sound)
    return {
        "frames": frames,
        "damaged_access_units": damaged,
        "damaged_frames": frames - len(sound) if damaged else 0,
        "damaged_judged": len(seen.wrong),
        "whole_frames": len(sound),
        "whole_judged_share": round(sound_seen / len(sound), 4) if sound else None,
    }


def stream(url: str, **options: str) -> Camera:
    """Opens a stream that may come faster than its pictures were taken."""
    config = {"source": url, "kind": "stream", "stall_s": 20, **options}
    return StreamCamera(CameraConfig.model_validate(config))


def video(path: Path) -> Camera:
    """Opens a video file."""
    return VideoCamera(CameraConfig(source=str(path), kind="video"))


def reference_of(*clips: Clip) -> Reference:
    """Decodes the undamaged clips."""
    made = Reference()
    for one in clips:
        with video(one.folder / "clip.mp4") as camera:
            images = []
            while (frame := camera.read()) is not None:
                images.append(frame.image)
        assert len(images) == one.frames, (one, len(images))
        made.pictures[images[0].shape] = images
    return made


Way = Callable[[], tuple[Seen, dict[str, Any]]]


class Coded:
    """The kinds of one codec."""

    def __init__(self, codec: str, folder: Path, frames: int = FRAMES) -> None:
        self.codec, self.folder, self.frames = codec, folder, frames
        self.clip = clip(codec, frames)
        self.other = clip(codec, frames, **OTHER)
        self.reference = reference_of(self.clip, self.other)
        units = streams.units_of(self.clip)
        self.made = {
            name: streams.damaged(units, damage, SHARE / 4, GOP, 7)
            for name, damage in streams.kinds(codec).items()
        }
        self.made["lost access unit"] = streams.damaged(units, lambda *_: b"", SHARE / 4, GOP, 7)
        self.made["resolution changes"] = streams.resized([self.clip, self.other])
        self.made["clean"] = Damaged(units, frozenset(), GOP)

    def ways(self) -> dict[str, Way]:
        """Returns what is run by its name."""
        ways: dict[str, Way] = {}
        for kind, made in self.made.items():
            ways[f"file mp4, {self.codec}, {kind}"] = lambda k=kind, m=made: self.file(k, m)
            ways[f"HTTP-TS, {self.codec}, {kind}"] = lambda k=kind, m=made: self.ts(k, m)
            if kind != "lost access unit":
                ways[f"RTSP/TCP, {self.codec}, {kind}"] = lambda k=kind, m=made: self.rtsp(k, m)
        ways[f"file mp4, {self.codec}, bytes overwritten"] = self.overwritten
        for share in LOSSES:
            ways[f"HTTP-TS, {self.codec}, {share:.1%} packets lost"] = lambda s=share: (
                self.ts_losing(s)
            )
            ways[f"RTSP/UDP, {self.codec}, {share:.1%} packets lost"] = lambda s=share: self.udp(s)
        return ways

    def _path(self, kind: str, suffix: str) -> Path:
        return self.folder / f"{self.codec}-{kind.replace(' ', '-')}{suffix}"

    def _result(self, camera: Camera, made: Damaged) -> tuple[Seen, dict[str, Any]]:
        seen = watch(camera, self.reference, self.frames, len(made.units))
        return seen, result_of(seen, len(made.damaged), made.sound(), len(made.units))

    def file(self, kind: str, made: Damaged) -> tuple[Seen, dict[str, Any]]:
        """Reads a video file."""
        return self._result(video(streams.file_of(made, self.clip, self._path(kind, ".mp4"))), made)

    def overwritten(self) -> tuple[Seen, dict[str, Any]]:
        """Reads a video file with wrong bytes anywhere."""
        whole = self.made["clean"]
        path = streams.file_of(whole, self.clip, self._path("overwritten", ".mp4"))
        numbers = streams.overwriting(path, self.clip, SHARE / 4, 3)
        return self._result(video(path), Damaged(whole.units, numbers, GOP))

    def ts(self, kind: str, made: Damaged) -> tuple[Seen, dict[str, Any]]:
        """Reads a transport stream over HTTP."""
        path = streams.file_of(made, self.clip, self._path(kind, ".ts"))
        with http_camera([path.read_bytes()], TRANSPORT_STREAM) as url:
            return self._result(stream(url), made)

    def ts_losing(self, share: float) -> tuple[Seen, dict[str, Any]]:
        """Reads a transport stream that loses packets."""
        whole = self.made["clean"]
        path = streams.file_of(whole, self.clip, self._path(f"losing-{share}", ".ts"))
        data, numbers = streams.losing_packets(path, share, 5)
        with http_camera([data], TRANSPORT_STREAM) as url:
            return self._result(stream(url), Damaged(whole.units, numbers, GOP))

    def rtsp(self, kind: str, made: Damaged) -> tuple[Seen, dict[str, Any]]:
        """Reads RTSP over TCP."""
        folder = streams.folder_of(made, self.clip, self._path(kind, ""))
        with rtsp_camera(self.clip, folder=folder) as camera:
            return self._result(stream(camera.url), made)

    def udp(self, share: float) -> tuple[Seen, dict[str, Any]]:
        """Reads RTSP over UDP through a network that loses packets."""
        with rtsp_camera(self.clip) as camera, lossy_network(camera.url, share, 9) as network:
            seen = watch(
                stream(network.url, transport="udp"), self.reference, self.frames, self.frames
            )
            made = Damaged(self.made["clean"].units, network.lost_pictures(self.frames), GOP)
        return seen, result_of(seen, len(made.damaged), made.sound(), self.frames)


class Jpegs:
    """The kinds of Motion JPEG."""

    def __init__(self, folder: Path, frames: int = FRAMES, fps: int = 30) -> None:
        self.folder, self.frames, self.fps = folder, frames, fps
        self.clip = Clip(frames=frames)
        other = Clip(frames=frames, **OTHER)
        self.whole = streams.jpegs_of(self.clip)
        others = streams.jpegs_of(other)
        restarts = streams.jpegs_of(self.clip, cv2.IMWRITE_JPEG_RST_INTERVAL, 4)
        self.reference = Reference()
        for each in (self.whole, others):
            images = [cv2.imdecode(np.frombuffer(one, np.uint8), cv2.IMREAD_COLOR) for one in each]
            self.reference.pictures[images[0].shape] = images
        self.made = {
            name: streams.damaged(self.whole, damage, SHARE, 1, 7)
            for name, damage in streams.JPEG_KINDS.items()
        }
        wrong = streams.JPEG_KINDS["wrong data"]
        self.made["wrong data, restart markers"] = streams.damaged(restarts, wrong, SHARE, 1, 7)
        mixed = [(others if n // GOP % 2 else self.whole)[n] for n in range(frames)]
        self.made["resolution changes"] = Damaged(mixed, frozenset(), 1)
        self.made["clean"] = Damaged(self.whole, frozenset(), 1)

    def ways(self) -> dict[str, Way]:
        """Returns what is run by its name."""
        ways: dict[str, Way] = {}
        for kind, made in self.made.items():
            ways[f"HTTP, mjpeg, {kind}"] = lambda m=made: self.http(m)
            ways[f"file avi, mjpeg, {kind}"] = lambda k=kind, m=made: self.file(k, m)
        return ways

    def _result(self, camera: Camera, made: Damaged) -> tuple[Seen, dict[str, Any]]:
        seen = watch(camera, self.reference, self.frames, len(made.units))
        return seen, result_of(seen, len(made.damaged), made.sound(), len(made.units))

    def http(self, made: Damaged) -> tuple[Seen, dict[str, Any]]:
        """Reads JPEG after JPEG over HTTP."""
        with http_camera([part(unit) for unit in made.units], MULTIPART, 1 / self.fps) as url:
            return self._result(stream(url), made)

    def file(self, kind: str, made: Damaged) -> tuple[Seen, dict[str, Any]]:
        """Reads a video file."""
        path = self.folder / f"{kind.replace(' ', '-')}.avi"
        size = self.clip.width, self.clip.height
        return self._result(video(streams.avi_of(made.units, path, size, 30)), made)
