"""The work of `differnet labels`: reads a station's labels and exports them as a data set."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path

from ..config import load_config
from ..database import read_rows
from ..errors import DataError
from ..evidence.index import find
from ..files import write_bytes
from ..images import read_image
from ..inspection.capture_record import CaptureRecord, View, write_capture
from ..labels import FILE, LIST, Labelled
from ..model_file.contract import StrictModel
from ..text import instead

GROUPS = r"([^/]+)__[^/]+__[0-9a-f]{32}\.\w+$"
"""Finds the part in the path of an exported picture."""
_UNSAFE = re.compile(r"[^A-Za-z0-9.-]+")


class Exported(StrictModel):
    """The result of an export.

    Args:
        pictures: Number of pictures of each class, by its folder.
        gone: Number of labels whose pictures are no longer kept.

    Example:
        >>> Exported(pictures={"good": 12, "scratch": 3}, gone=0).pictures["good"]
        12
    """

    pictures: dict[str, int]
    gone: int


def state_of(station: Path) -> Path:
    """Returns a station's state folder, given that folder or the station's configuration.

    Raises:
        ConfigError: The configuration is wrong.
    """
    return station if station.is_dir() else load_config(station).config.station.state


def read_labels(state: Path, camera: str | None) -> list[Labelled]:
    """Returns the labels of one camera or of all, the latest first.

    Raises:
        DataError: The folder is no station's state, or the camera has no label.
        StoreError: The database can't be read.
    """
    path = state / FILE
    if not path.is_file():
        raise DataError(
            f"{state} holds no labels ({FILE}): give the configuration or the state folder of a "
            "station that has run with this version"
        )
    found = [Labelled.model_validate(row) for row in read_rows(path, LIST)]
    cameras = sorted({one.camera for one in found})
    if camera is not None and camera not in cameras:
        known = instead(camera, cameras) if cameras else "there are none yet"
        raise DataError(f"there are no labels of a camera {camera!r}; {known}")
    return [one for one in found if camera in (None, one.camera)]


def picture_of(state: Path, id_: str) -> Path | None:
    """Returns the file of a labelled picture; None if it is no longer kept."""
    return find(state / "evidence", id_, "input")


def export(state: Path, labels: Sequence[Labelled], output: Path) -> Exported:
    """Writes a data set: `good`, a folder for each kind of defect, and `capture.json`.

    A picture's name begins with its part, so that pictures of one part stay together.

    Args:
        state: The station's state folder.
        labels: The labels to export, the latest first.
        output: A new or empty folder.

    Raises:
        DataError: Nothing can be exported, the folder is not empty, or the cameras' models have
            different regions.
        OutputError: The data set can't be written.
    """
    if output.is_dir() and any(output.iterdir()):
        raise DataError(f"--output {output} is not empty: give a new folder")
    kept = [(one, path) for one in labels if (path := picture_of(state, one.id)) is not None]
    view = _view([one for one, _ in kept])
    counts: Counter[str] = Counter()
    written = output
    for one, path in kept:
        folder = "good" if one.label == "good" else one.kind or "defect"
        with suppress(FileNotFoundError):  # a running station has just deleted it
            data = path.read_bytes()
            part = _UNSAFE.sub("-", one.part or one.first or one.id)
            written = output / folder / f"{part}__{one.camera}__{one.id}{path.suffix}"
            write_bytes(written, data)
            counts[folder] += 1
    if not counts:
        why = f": the pictures of all {len(labels)} are gone" if labels else "; there are none yet"
        raise DataError(f"no labelled picture can be exported{why}")
    height, width = read_image(written).shape[:2]
    write_capture(
        output,
        CaptureRecord(
            source=f"labels of {', '.join(sorted({one.camera for one, _ in kept}))}",
            roi=view.roi,
            fit=view.fit,
            frame_size=(width, height),
            created=datetime.now(timezone.utc).isoformat(),
            groups=GROUPS,
        ),
    )
    return Exported(pictures=dict(sorted(counts.items())), gone=len(labels) - counts.total())


def _view(labels: Sequence[Labelled]) -> View:
    """Returns the view of each camera's latest model, which must be the same for all cameras."""
    views = {one.camera: one.view for one in reversed(labels) if one.view is not None}
    if len(set(views.values())) > 1:
        raise DataError(
            f"the cameras {', '.join(sorted(views))} are judged by models with different regions "
            "or fits, which one data set can't hold: export one camera at a time (--camera)"
        )
    return View.model_validate_json(next(iter(views.values()))) if views else View()
