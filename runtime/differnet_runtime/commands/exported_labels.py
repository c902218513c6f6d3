"""Labels of a station as a data set: pictures by class, and how they were taken."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from datetime import datetime, timezone
from pathlib import Path

from differnet_runtime.capture_record import CaptureRecord, View, write_capture
from differnet_runtime.config import load_config
from differnet_runtime.database import read_rows
from differnet_runtime.errors import DataError
from differnet_runtime.evidence.pictures import find
from differnet_runtime.files import write_bytes
from differnet_runtime.images import read_image
from differnet_runtime.labels import FILE, Labelled
from differnet_runtime.labels.store import LIST
from differnet_runtime.metadata import Part
from differnet_runtime.suggestions import instead

GROUPS = r"([^/]+)__[^/]+__[0-9a-f]{32}\.\w+$"
"""Names the part in an exported picture's path."""

_DEFECT = "defect"
"""Kind of those defects for which nobody named one."""

_UNSAFE = re.compile(r"[^A-Za-z0-9.-]+")


class Exported(Part):
    """What was exported.

    Args:
        pictures: How many of each class, by its folder.
        gone: Labels whose pictures are no longer kept.
    """

    pictures: dict[str, int]
    gone: int


def state_of(station: Path) -> Path:
    """Returns a station's state folder, given it or the configuration.

    Raises:
        ConfigError: The configuration is wrong.
    """
    return station if station.is_dir() else load_config(station).config.station.state


def read_labels(state: Path, camera: str | None) -> list[Labelled]:
    """Returns the labels, the latest first.

    Raises:
        DataError: There is no station's state, or no such camera has a label.
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
    """Returns the file of a labelled picture; None where it is no longer kept."""
    return find(state / "evidence", id_, "input")


def export(state: Path, labels: Iterable[Labelled], output: Path) -> Exported:
    """Writes a data set: `good`, a folder for each kind of defect, `capture.json`.

    A picture's name begins with its part, so that pictures of one part stay together.

    Args:
        state: The station's state folder.
        labels: Those to export, the latest first; one whose picture is gone is counted only.
        output: New or empty.

    Raises:
        DataError: Nothing can be exported, the folder is not empty, or the cameras' models have
            different regions.
        OutputError: The data set can't be written.
    """
    if output.is_dir() and any(output.iterdir()):
        raise DataError(f"--output {output} is not empty: give a new folder")
    kept, gone = [], 0
    for one in labels:
        if (path := picture_of(state, one.id)) is None:
            gone += 1
        else:
            kept.append((one, path))
    if not kept:
        why = f": the pictures of all {gone} are gone" if gone else "; there are none yet"
        raise DataError(f"no labelled picture can be exported{why}")
    view = _view(one for one, _ in kept)
    counts: Counter[str] = Counter()
    written = output
    for one, path in kept:
        folder = "good" if one.label == "good" else one.kind or _DEFECT
        try:
            data = path.read_bytes()
        except FileNotFoundError:  # the station runs, and just let it go
            gone += 1
            continue
        written = output / folder / _name(one, path.suffix)
        write_bytes(written, data)
        counts[folder] += 1
    if not counts:
        raise DataError(f"no labelled picture can be exported: the pictures of all {gone} are gone")
    _record(output, written, view, sorted({one.camera for one, _ in kept}))
    return Exported(pictures=dict(sorted(counts.items())), gone=gone)


def _view(labels: Iterable[Labelled]) -> View:
    """Returns what the latest model of each camera saw, which must be the same for all."""
    views: dict[str, str] = {}
    for one in labels:
        if one.view is not None:
            views.setdefault(one.camera, one.view)
    if len(set(views.values())) > 1:
        raise DataError(
            f"the cameras {', '.join(sorted(views))} are judged by models with different regions "
            "or fits, which one data set can't hold: export one camera at a time (--camera)"
        )
    return View.model_validate_json(next(iter(views.values()))) if views else View()


def _name(one: Labelled, suffix: str) -> str:
    part = _UNSAFE.sub("-", one.part or one.first or one.id)
    return f"{part}__{one.camera}__{one.id}{suffix}"


def _record(output: Path, picture: Path, view: View, cameras: list[str]) -> None:
    height, width = read_image(picture).shape[:2]
    write_capture(
        output,
        CaptureRecord(
            source=f"labels of {', '.join(cameras)}",
            roi=view.roi,
            fit=view.fit,
            frame_size=(width, height),
            created=datetime.now(timezone.utc).isoformat(),
            groups=GROUPS,
        ),
    )
