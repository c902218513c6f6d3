"""The steps of `differnet capture`: settle, lock, agree on the region, take pictures.

What `differnet capture` has taken: frames that show nothing new, and how many parts.
"""

from __future__ import annotations

import hashlib
import sys
import time
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import NamedTuple

from ..cameras import Camera
from ..cameras.device import lock_settings
from ..command import progress, warn
from ..errors import CameraError, DataError, DifferNetError, ImageReadError
from ..images import decode_image, list_images, read_bytes, write_image
from ..inspection.capture_record import CaptureRecord, CaptureSettings, read_capture
from ..inspection.examination import Measured, Weight, different_parts, examine, listed, measure
from ..inspection.preprocess import preprocess
from ..inspection.similar import Repeats, comparing
from ..model_file.contract import Fit, InputContract, Region
from ..records import Frame, Image

_TOLD_EVERY_S = 10.0


class AnnouncedRepeats(Repeats):
    """Recognises repeated frames, and says every ten seconds that it waits for a different part.

    Args:
        record: The capture's record.
    """

    def __init__(self, record: CaptureRecord) -> None:
        super().__init__(record)
        self._told = time.monotonic()

    def seen_before(self, image: Image) -> bool:
        """Says whether a frame `(H, W, 3)` shows nothing new; it is remembered if it does."""
        seen = super().seen_before(image)
        if seen and time.monotonic() - self._told > _TOLD_EVERY_S:
            self._told = time.monotonic()
            print(
                f"waiting for another part: {self.left_out} frames showed the same as one before",
                file=sys.stderr,
            )
        return seen


def look_at(folder: Path, record: CaptureRecord) -> str:
    """Looks at all pictures of a folder, and warns on standard error of those that seem wrong.

    Returns:
        How many different parts they show, in words.
    """
    measured = _measured(folder, comparing(record))
    found = examine(measured)
    wrong = found.of(Weight.SURE) + found.of(Weight.DOUBTFUL)
    if wrong:
        warn(
            f"{len(wrong)} of {len(measured)} pictures in {folder} seem wrong:\n"
            f"{listed(wrong)}\nLook at the camera and the light, and remove them before training."
        )
    parts = len(set(different_parts(measured)))
    return f"{len(measured)} pictures of {parts} different parts are in {folder}."


def _measured(folder: Path, contract: InputContract) -> list[Measured]:
    found = []
    for path in progress(list_images(folder), "looking at the pictures", unit="image"):
        try:
            data = read_bytes(path)
            image = decode_image(data, str(path))
        except ImageReadError as error:
            warn(str(error))
            continue
        content = hashlib.sha256(data).hexdigest()
        found.append(measure(path, content, image, preprocess(image, contract)))
    return found


_AFTER_LOCKING_S = 0.5
"""Frames that were on their way while the settings changed."""


@dataclass(frozen=True)
class Wish:
    """What the user asked for.

    Args:
        roi: The region of interest; None for the whole frame, or that of the folder's record.
        choose_roi: Have it dragged on the first frame.
        fit: None for `stretch`, or that of the folder's record.
        settle_s: Seconds for the camera's automatics.
        settings: Values by setting name; None keeps what the camera has.
    """

    roi: Region | None = None
    choose_roi: bool = False
    fit: Fit | None = None
    settle_s: float = 0.0
    settings: dict[str, float | None] = field(default_factory=dict)


def prepare(camera: Camera, folder: Path, wish: Wish) -> tuple[Frame, CaptureRecord]:
    """Locks the camera's settings and agrees with what the folder already holds.

    Returns:
        The first frame to be saved, and the record to be written before it.

    Raises:
        CameraError: The camera is lost, or has no settings although some were asked for.
        DataError: The folder's record says otherwise, or the region does not fit the frame.
        OutputError: A window was asked for and there is none.
    """
    before = read_capture(folder)
    if before is not None:
        _refuse_change("region of interest", before.roi, wish.roi)
        _refuse_change("fit", before.fit, wish.fit)
        if wish.choose_roi:
            raise DataError(f"{folder} has its region of interest already; leave out --choose-roi")
    _settle(camera, wish.settle_s)
    settings = _lock(camera, wish, before)
    _settle(camera, min(wish.settle_s, _AFTER_LOCKING_S))
    frame = _next_frame(camera, due_ns=0)
    record = CaptureRecord(
        source=camera.describe(),
        roi=before.roi if before else _chosen(frame) if wish.choose_roi else wish.roi,
        fit=before.fit if before else wish.fit or "stretch",
        settings=settings,
        frame_size=_size(frame),
        created=before.created if before else _now(),
    )
    _check_size(record, before, folder)
    return frame, record


def _refuse_change(what: str, there: object, wished: object) -> None:
    if wished is not None and wished != there:
        raise DataError(
            f"the pictures in this folder were taken with {what} {there or '(the whole frame)'}; "
            f"{wished} was asked for. One model needs one {what}: capture into another folder, or "
            "leave the option out."
        )


def _settle(camera: Camera, duration_s: float) -> None:
    if not camera.live:
        return
    end = time.monotonic() + duration_s
    while time.monotonic() < end:
        _next_frame(camera, due_ns=0)


def _lock(camera: Camera, wish: Wish, before: CaptureRecord | None) -> CaptureSettings:
    asked = {name: value for name, value in wish.settings.items() if value is not None}
    if camera.controls is None:
        if asked:
            raise CameraError(
                f"{camera.describe()}: {', '.join(asked)} can be set on a device only "
                "(0 or /dev/video0); set it in the camera's own menu"
            )
        if camera.live:
            warn("a stream's settings can't be locked from here: do it in the camera's own menu")
        return CaptureSettings()
    there = before.settings.actual if before else {}
    settings = lock_settings(camera.controls, {**there, **asked})
    for setting in settings:
        if setting.warning:
            warn(f"{setting.warning}; it may change while pictures are taken and inspected")
        if there.get(setting.name) not in (None, setting.actual):
            warn(
                f"{setting.name} was {there[setting.name]} for the pictures that are there, "
                f"and is {setting.actual} now"
            )
    return CaptureSettings(
        requested={setting.name: setting.requested for setting in settings},
        actual={setting.name: setting.actual for setting in settings},
    )


def _chosen(frame: Frame) -> Region:
    from .output import Window

    window = Window("region of interest", "Or give the region with --roi X,Y,W,H.")
    try:
        return window.choose_region(frame.image)
    finally:
        window.close()


def _check_size(record: CaptureRecord, before: CaptureRecord | None, folder: Path) -> None:
    width, height = record.frame_size
    if before is not None and before.frame_size != record.frame_size:
        there = " x ".join(map(str, before.frame_size))
        raise DataError(
            f"the pictures in {folder} have {there} pixels; this camera gives {width} x {height}. "
            "Set the camera back, or capture into another folder."
        )
    roi = record.roi
    if roi is not None and (roi.x + roi.width > width or roi.y + roi.height > height):
        raise DataError(
            f"the region of interest {roi} (x,y,width,height) does not lie inside the camera's "
            f"frame of {width} x {height} pixels"
        )


class Taken(NamedTuple):
    """What was saved: how many pictures, and the last one."""

    saved: int
    last: Path


def take(
    camera: Camera,
    first: Frame,
    folder: Path,
    count: int,
    interval_s: float,
    repeats: AnnouncedRepeats | None = None,
) -> Taken:
    """Saves `first` and what follows, numbered on from what is in the folder.

    Args:
        camera: Settled and locked.
        first: Its first frame.
        folder: Where to.
        count: Pictures to save.
        interval_s: Least time between two pictures of a live camera.
        repeats: Leaves out frames that show the same as one before; None saves all. Where it left
            some out, recorded pictures may end before there are `count`.

    Raises:
        DifferNetError: The camera or the disk failed; what was saved stays, and the message says
            how to go on.
    """
    start, frame = _next_number(folder), first
    saved = 0
    try:
        for number in progress(range(start, start + count), "capture", unit="pictures"):
            if saved:
                due_ns = frame.captured_ns + round(interval_s * 1e9)
                following = _next_different(camera, due_ns, first, repeats)
                if following is None:
                    break
                frame = following
            elif repeats is not None:
                repeats.seen_before(frame.image)
            path = folder / f"{number:06d}.png"
            write_image(path, frame.image)
            saved += 1
    except DifferNetError as error:
        raise type(error)(f"{error}\n{_state(saved, count, folder)}") from error
    except KeyboardInterrupt:
        print(f"\n{_state(saved, count, folder)}", file=sys.stderr)
        raise
    return Taken(saved, path)


def _next_different(
    camera: Camera, due_ns: int, first: Frame, repeats: AnnouncedRepeats | None
) -> Frame | None:
    """Returns the next frame that shows something else; None at the end of recorded ones."""
    while True:
        try:
            frame = _next_frame(camera, due_ns)
        except _NoMoreFramesError:
            if repeats is None or not repeats.left_out:
                raise
            return None
        if _size(frame) != _size(first):
            raise CameraError(f"{frame.name} has another size than the frames before it")
        if repeats is None or not repeats.seen_before(frame.image):
            return frame


class _NoMoreFramesError(CameraError):
    """Recorded pictures have come to their end."""


def _state(saved: int, count: int, folder: Path) -> str:
    return (
        f"{saved} of {count} pictures were saved in {folder}. To go on, give the same command with "
        f"--count {count - saved}: it numbers on and keeps the settings."
    )


def _next_number(folder: Path) -> int:
    numbers = (int(path.stem) for path in folder.iterdir() if path.stem.isdecimal())
    return max(numbers, default=0) + 1


def _next_frame(camera: Camera, due_ns: int) -> Frame:
    """Returns the next good frame that was taken when it was due; earlier ones are dropped."""
    while True:
        try:
            frame = camera.read()
        except ImageReadError as error:
            warn(f"left out: {error}")
            continue
        if frame is None:
            raise _NoMoreFramesError(f"{camera.describe()} has no more frames")
        if not camera.live or frame.captured_ns >= due_ns:
            return frame


def _size(frame: Frame) -> tuple[int, int]:
    height, width = frame.image.shape[:2]
    return width, height


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
