"""One frame of every camera, each in a process of its own, so that none can hang the check."""

from __future__ import annotations

import time
from collections.abc import Mapping

from differnet_runtime.capture import CaptureProcess
from differnet_runtime.config import CameraConfig
from differnet_runtime.errors import FrameError, ImageReadError
from differnet_runtime.metadata import ModelMetadata
from differnet_runtime.preprocess import preprocess
from differnet_runtime.records import Image

from .checking_models import Finding


def first_frames(
    cameras: Mapping[str, CameraConfig],
    timeout_s: float,
    models: Mapping[str, ModelMetadata] | None = None,
) -> list[Finding]:
    """Opens all cameras at once, takes a frame of each, and says whether its model knows the size.

    Args:
        cameras: By name.
        timeout_s: For all of them together, since they are opened at the same time.
        models: What judges each camera, where that is known.
    """
    opened = {name: CaptureProcess(name, camera) for name, camera in cameras.items()}
    until = time.monotonic() + timeout_s
    try:
        for capture in opened.values():
            capture.start()
        return [
            finding
            for name, capture in opened.items()
            for finding in _first_frame(name, capture, until, timeout_s, (models or {}).get(name))
        ]
    finally:
        for capture in opened.values():
            capture.stop()


def _first_frame(
    name: str,
    capture: CaptureProcess,
    until: float,
    timeout_s: float,
    model: ModelMetadata | None,
) -> list[Finding]:
    subject = f"camera.{name}"
    frame = None
    try:
        while frame is None and capture.wait(max(0.0, until - time.monotonic())):
            frame = capture.take()
            if frame is None and not capture.live:
                break
    except ImageReadError as error:
        return [Finding(subject, "look", str(error))]
    status = capture.status
    if frame is None:
        why = f": {status.reason}" if status.reason else ""
        return [Finding(subject, "look", f"no frame within {timeout_s:g} s{why}")]
    height, width = frame.image.shape[:2]
    refused = [Finding(subject, "look", s.warning) for s in status.settings if s.warning]
    if model is not None and (misfit := _misfit(frame.image, model)):
        refused.append(Finding(subject, "look", misfit))
    return [Finding(subject, "ok", f"gave a frame of {width} x {height} pixels"), *refused]


def _misfit(image: Image, model: ModelMetadata) -> str | None:
    """Says why the camera's model would give no verdict on frames of this size."""
    height, width = image.shape[:2]
    sizes = model.picture_sizes
    if sizes is not None and not sizes.accepts(width, height):
        return f"its model {model.name} knows pictures of {sizes}, not of {width} x {height} pixels"
    try:
        preprocess(image, model.input)
    except FrameError as error:
        return f"its model {model.name} can't take the frame: {error}"
    return None
