"""Puts together what gives a camera's frames their verdicts."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from ..cameras.sources import is_live, located
from ..capture import CaptureProcess
from ..config import CameraConfig
from ..outbox import PictureLog
from .camera_loop import CameraLoop, Report
from .judging import Judge
from .models import StationModel
from .picture_queue import PictureQueue, remembered

if TYPE_CHECKING:
    from .station import Station


def camera_loop(
    station: Station, name: str, config: CameraConfig, model: StationModel, report: Report
) -> CameraLoop:
    """Returns a camera's loop with its capture process; neither is started.

    Args:
        station: The station, whose parts the loop uses.
        name: The camera's name.
        config: The camera's configuration.
        model: The model that judges its frames.
        report: Takes every verdict.
    """
    own = station.config.station.name
    log = PictureLog(station.results.outbox, name, located(config).source)
    waits = not is_live(located(config))
    capture = CaptureProcess(name, config, remembered(log, config) if waits else None)
    threshold = partial(station.labelling.threshold, name, model)
    judge = Judge(own, name, config, model.switch, live=capture.live, threshold=threshold)
    pictures = None
    if waits:
        pictures = PictureQueue(config, capture, judge, model.switch, log, station=own, camera=name)
    return CameraLoop(name, config, capture, judge, report, pictures)
