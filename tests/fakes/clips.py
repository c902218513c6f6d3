"""H.264 and H.265 clips whose frames carry their number, so that damaged ones can be told."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from tests.kept import kept
from tests.servers import require

BITS, BLOCK = 12, 16


@dataclass(frozen=True)
class Clip:
    """How a clip is made.

    Args:
        frames: How many; it is played in a loop.
        fps: Of the clip.
        width: In pixels.
        height: Likewise.
        gop: Frames from key frame to key frame.
        bframes: Frames in a row that are predicted from both sides.
        still: Whether the scene stands still, with a sensor's noise.
        flashes: Whether every 17th picture is a quite different one.
        codec: `h264` or `h265`.
        slices: Of each picture.
        extra: Further parameters of x264 or x265, each behind a colon.
    """

    frames: int = 300
    fps: int = 30
    width: int = 320
    height: int = 240
    gop: int = 30
    bframes: int = 0
    still: bool = False
    flashes: bool = False
    codec: str = "h264"
    slices: int = 1
    extra: str = ""

    @property
    def folder(self) -> Path:
        """Made once: `clip.h264` (or `.h265`), `clip.mp4`, presentation times in `stamps.json`."""
        ffmpeg = require("ffmpeg")
        name = (
            f"clip-2-{self.frames}-{self.fps}-{self.width}x{self.height}-{self.gop}-"
            f"{self.bframes}-{int(self.still)}{'-flashes' if self.flashes else ''}"
        )
        if self.codec != "h264" or self.slices != 1:
            name += f"-{self.codec}-{self.slices}"
        name += self.extra.replace(":", "-").replace("=", "")
        return kept(name, lambda folder: self._make(folder, ffmpeg))

    def _make(self, folder: Path, ffmpeg: str) -> None:
        size = f"{self.width}x{self.height}"
        source = ["-f", "rawvideo", "-pix_fmt", "bgr24", "-s", size, "-r", str(self.fps), "-i", "-"]
        x264 = (
            f"keyint={self.gop}:min-keyint={self.gop}:scenecut=0:bframes={self.bframes}:"
            "b-adapt=0:aud=1:open-gop=0"
        )
        if self.flashes:
            x264 = x264.replace("scenecut=0", "scenecut=100") + ":ref=3"
        if self.slices != 1:
            x264 += f":slices={self.slices}"
        x264 += self.extra
        library = "libx264" if self.codec == "h264" else "libx265"
        params = ["-x264-params", x264]
        if self.codec == "h265":
            params = [
                "-x265-params",
                x264.replace(":aud=1", ":aud=1:log-level=none:repeat-headers=1"),
            ]
        encode = ["-c:v", library, "-preset", "veryfast", "-crf", "20", "-pix_fmt", "yuv420p"]
        command = [ffmpeg, "-loglevel", "error", *source, *encode, *params]
        pictures = b"".join(self.picture(number).tobytes() for number in range(self.frames))
        mp4, raw = folder / "clip.mp4", folder / f"clip.{self.codec}"
        subprocess.run([*command, str(mp4)], input=pictures, check=True)
        copy = [ffmpeg, "-loglevel", "error", "-i", str(mp4), "-c", "copy", "-bsf:v"]
        name = {"h264": "h264", "h265": "hevc"}[self.codec]
        subprocess.run([*copy, f"{name}_mp4toannexb", str(raw)], check=True)
        stamps = {"pts_s": _pts_s(mp4), "length_s": self.frames / self.fps}
        (folder / "stamps.json").write_text(json.dumps(stamps))

    def picture(self, number: int) -> np.ndarray:
        """Returns a frame before it is encoded."""
        noise = np.random.default_rng(number if self.still else 1)
        texture = noise.integers(60, 196, (self.height // 8, self.width // 8, 3), np.uint8)
        if self.still:
            texture = np.full_like(texture, 120)
            texture[4:20, 6:30] = (60, 160, 200)
        image = cv2.resize(texture, (self.width, self.height), interpolation=cv2.INTER_CUBIC)
        if self.still:
            return cv2.add(image, noise.integers(0, 6, image.shape, np.uint8))
        if self.flashes and number % 17 == 16:
            image = np.random.default_rng(number).integers(0, 255, image.shape, np.uint8)
        image = np.roll(image, (number * 3, number * 5), (0, 1))
        for bit in range(BITS):
            value = 255 if number >> bit & 1 else 0
            image[:BLOCK, bit * BLOCK : (bit + 1) * BLOCK] = value
        return image

    def pictures(self) -> str:
        """Returns the kind of each frame: K for a key frame, else I, P or B."""
        probe = [_ffprobe(), "-loglevel", "error", "-show_entries", "frame=key_frame,pict_type"]
        run = subprocess.run(
            [*probe, "-of", "csv=p=0", str(self.folder / "clip.mp4")],
            check=True,
            capture_output=True,
            text=True,
        )
        frames = [line.split(",") for line in run.stdout.split()]
        return "".join("K" if key == "1" else picture for key, picture, *_ in frames)

    def losing(self, units: Iterable[int], path: Path) -> Path:
        """Writes the clip without some access units, the others' times as they were."""
        drop = "+".join(f"eq(n,{unit})" for unit in units) or "0"
        command = [require("ffmpeg"), "-loglevel", "error", "-y", "-i", self.folder / "clip.mp4"]
        loss = ["-c", "copy", "-bsf:v", f"noise=amount=0:drop='{drop}'"]
        subprocess.run([*map(str, command), *loss, "-copyts", str(path)], check=True)
        return path

    def whole(self) -> list[np.ndarray]:
        """Returns every frame as it is decoded when nothing is lost."""
        capture = cv2.VideoCapture(str(self.folder / "clip.mp4"), cv2.CAP_FFMPEG)
        images = []
        while True:
            ok, image = capture.read()
            if not ok:
                capture.release()
                assert len(images) == self.frames
                return images
            images.append(image)


def number_of(image: np.ndarray) -> int:
    """Returns the number that a frame carries."""
    middle = image[BLOCK // 2, BLOCK // 2 : BITS * BLOCK : BLOCK, 1]
    return sum(1 << bit for bit, value in enumerate(middle) if value > 127)


def _pts_s(path: Path) -> list[float]:
    """Returns when each frame is shown, in the order in which they are sent."""
    probe = [
        _ffprobe(),
        "-loglevel",
        "error",
        "-show_entries",
        "packet=pts_time",
    ]
    run = subprocess.run(
        [*probe, "-of", "csv=p=0", str(path)], check=True, capture_output=True, text=True
    )
    stamps = [float(line.strip(",")) for line in run.stdout.split()]
    return [stamp - min(stamps) for stamp in stamps]


def _ffprobe() -> str:
    return str(Path(require("ffmpeg")).with_name("ffprobe"))
