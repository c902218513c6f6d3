"""The work of `differnet capture`: lock the camera's settings, agree on a region, take pictures."""

from __future__ import annotations

import argparse
import hashlib
import sys
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from itertools import islice
from pathlib import Path

from ..cameras.base import Camera
from ..cameras.device import lock_settings
from ..cameras.sources import open_camera
from ..command import progress, warn
from ..errors import CameraError, DataError, DifferNetError, ImageReadError
from ..images import decode_image, list_images, read_bytes, write_image
from ..inspection.capture_record import (
    CaptureRecord,
    CaptureSettings,
    read_capture,
    write_capture,
)
from ..inspection.examination import Measured, Weight, different_parts, examine, listed, measure
from ..inspection.preprocess import preprocess
from ..inspection.similar import Repeats, comparing
from ..model_file.contract import InputContract, Region
from ..records import Frame

_TOLD_EVERY_S = 10.0
_AFTER_LOCKING_S = 0.5
"""Time for frames that were on their way while the settings changed."""


def capture(arguments: argparse.Namespace) -> None:
    """Takes pictures and says what was saved.

    Args:
        arguments: As parsed by `differnet capture`.

    Raises:
        DifferNetError: The camera or the disk failed, or the pictures would not fit those in the
            folder. What was saved stays, and the message says how to go on.
    """
    folder: Path = arguments.output
    with open_camera(arguments.camera) as camera:
        first, record = _prepare(camera, folder, arguments)
        write_capture(folder, record)
        repeats = None if arguments.keep_similar else Repeats(record)
        frames = _frames(camera, first, arguments.interval, repeats)
        saved = _save(frames, folder, arguments.count)
    print(f"{len(saved)} pictures were saved in {folder}, the last as {saved[-1].name}.")
    if repeats is not None and repeats.left_out:
        print(
            f"{repeats.left_out} frames were left out: they show the same as one before, but for "
            "noise (--keep-similar saves them, too)."
        )
    print(_look_at(folder, record))


def _prepare(camera: Camera, folder: Path, wish: argparse.Namespace) -> tuple[Frame, CaptureRecord]:
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
    _settle(camera, wish.settle)
    settings = _lock(camera, {"exposure": wish.exposure, "gain": wish.gain}, before)
    _settle(camera, min(wish.settle, _AFTER_LOCKING_S))
    frame = _next_frame(camera, due_ns=0)
    record = CaptureRecord(
        source=camera.source,
        roi=before.roi if before else _chosen(frame) if wish.choose_roi else wish.roi,
        fit=before.fit if before else wish.fit or "stretch",
        settings=settings,
        frame_size=_size(frame),
        created=before.created
        if before
        else datetime.now(timezone.utc).isoformat(timespec="seconds"),
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
    end = time.monotonic() + duration_s
    while camera.live and time.monotonic() < end:
        _next_frame(camera, due_ns=0)


def _lock(
    camera: Camera, wanted: dict[str, float | None], before: CaptureRecord | None
) -> CaptureSettings:
    asked = {name: value for name, value in wanted.items() if value is not None}
    if camera.controls is None:
        if asked:
            raise CameraError(
                f"{camera.source}: {', '.join(asked)} can be set on a device only "
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
        raise DataError(
            f"the pictures in {folder} have {' x '.join(map(str, before.frame_size))} pixels; this "
            f"camera gives {width} x {height}. Set the camera back, or capture into another folder."
        )
    roi = record.roi
    if roi is not None and (roi.x + roi.width > width or roi.y + roi.height > height):
        raise DataError(
            f"the region of interest {roi} (x,y,width,height) does not lie inside the camera's "
            f"frame of {width} x {height} pixels"
        )


def _save(frames: Iterator[Frame], folder: Path, count: int) -> list[Path]:
    """Saves up to `count` frames, numbered on from what is in the folder; returns their files."""
    start = 1 + max(
        (int(path.stem) for path in folder.iterdir() if path.stem.isdecimal()), default=0
    )
    saved: list[Path] = []
    try:
        for frame in progress(islice(frames, count), "capture", total=count, unit="pictures"):
            path = folder / f"{start + len(saved):06d}.png"
            write_image(path, frame.image)
            saved.append(path)
    except DifferNetError as error:
        raise type(error)(f"{error}\n{_state(len(saved), count, folder)}") from error
    except KeyboardInterrupt:
        print(f"\n{_state(len(saved), count, folder)}", file=sys.stderr)
        raise
    return saved


def _frames(
    camera: Camera, first: Frame, interval_s: float, repeats: Repeats | None
) -> Iterator[Frame]:
    """Yields `first` and the frames that follow it, without repeats.

    Recorded pictures may end early if some were left out as repeats. While a camera shows nothing
    but repeats, standard error says so every ten seconds.

    Args:
        camera: A camera whose settings are locked.
        first: The camera's first frame.
        interval_s: Minimum time in seconds between two frames of a live camera.
        repeats: Recognises repeated frames; None yields all.
    """
    frame, due_ns, told_s = first, 0, time.monotonic()
    while True:
        if _size(frame) != _size(first):
            raise CameraError(f"{frame.name} has another size than the frames before it")
        if repeats is None or not repeats.seen_before(frame.image):
            due_ns = frame.captured_ns + round(interval_s * 1e9)
            yield frame
        elif time.monotonic() - told_s > _TOLD_EVERY_S:
            told_s = time.monotonic()
            print(
                f"waiting for another part: {repeats.left_out} frames showed the same as one "
                "before",
                file=sys.stderr,
            )
        try:
            frame = _next_frame(camera, due_ns)
        except _NoMoreFramesError:
            if repeats is None or not repeats.left_out:
                raise
            return


class _NoMoreFramesError(CameraError):
    """Recorded pictures have come to their end."""


def _state(saved: int, count: int, folder: Path) -> str:
    return (
        f"{saved} of {count} pictures were saved in {folder}. To go on, give the same command with "
        f"--count {count - saved}: it numbers on and keeps the settings."
    )


def _next_frame(camera: Camera, due_ns: int) -> Frame:
    """Returns the next readable frame taken at `due_ns` or later (always, unless live)."""
    while True:
        try:
            frame = camera.read()
        except ImageReadError as error:
            warn(f"left out: {error}")
            continue
        if frame is None:
            raise _NoMoreFramesError(f"{camera.source} has no more frames")
        if not camera.live or frame.captured_ns >= due_ns:
            return frame


def _size(frame: Frame) -> tuple[int, int]:
    height, width = frame.image.shape[:2]
    return width, height


def _look_at(folder: Path, record: CaptureRecord) -> str:
    """Warns of pictures that seem wrong; returns in words how many parts the folder shows."""
    measured = list(_measured(folder, comparing(record)))
    found = examine(measured)
    wrong = found.of(Weight.SURE) + found.of(Weight.DOUBTFUL)
    if wrong:
        warn(
            f"{len(wrong)} of {len(measured)} pictures in {folder} seem wrong:\n"
            f"{listed(wrong)}\nLook at the camera and the light, and remove them before training."
        )
    parts = {*different_parts(measured)}
    return f"{len(measured)} pictures of {len(parts)} different parts are in {folder}."


def _measured(folder: Path, contract: InputContract) -> Iterator[Measured]:
    for path in progress(list_images(folder), "looking at the pictures", unit="image"):
        try:
            data = read_bytes(path)
            image = decode_image(data, str(path))
        except ImageReadError as error:
            warn(str(error))
            continue
        content = hashlib.sha256(data).hexdigest()
        yield measure(path, content, image, preprocess(image, contract))
