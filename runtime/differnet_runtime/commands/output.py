"""The outputs of `differnet run`: a table, lines of JSON, pictures, a window, a summary."""

from __future__ import annotations

import json
import os
import re
import sys
from collections import Counter, deque
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np

from ..errors import DataError, OutputError
from ..files import SUFFIXES, os_errors
from ..images import write_image
from ..inspection.drawing import annotate
from ..installation import advice
from ..model_file.contract import Region
from ..model_file.metadata import ModelMetadata
from ..records import Frame, Image, Inspection, Verdict
from ..text import Meaning, coloured, table

_WIDTHS = (11, 10, 10, 8, 7)
_NUMBERS = range(1, 5)
"""Columns of the table that are aligned to the right."""
HEADER = table(
    [("verdict", "score", "threshold", "good-pct", "ms", "name")], least=_WIDTHS, right=_NUMBERS
)
_MEANINGS: dict[Verdict, Meaning] = {
    Verdict.GOOD: "good",
    Verdict.DEFECT: "bad",
    Verdict.NO_DECISION: "look",
}
_LATENCIES_KEPT = 100_000


class InspectionOutputs:
    """The outputs of a run; each inspection is passed to all of them.

    Args:
        output: File to append lines of JSON to; without it (and without `json`) a table is printed.
        json: Print lines of JSON.
        save: Folder for annotated pictures.
        show: Show annotated pictures in a window.
        metadata: The model's metadata, for the heatmap on the pictures.

    Raises:
        OutputError: One of them can't be opened.

    Example:
        >>> outputs = InspectionOutputs(None, json=True, save=None, show=False)
        >>> outputs.close()
    """

    def __init__(
        self,
        output: Path | None,
        *,
        json: bool,
        save: Path | None,
        show: bool,
        metadata: ModelMetadata | None = None,
    ) -> None:
        self._json, self._save, self._metadata = json, save, metadata
        self._table = output is None and not json
        self._window: Window | None = None
        self._file: JsonLines | None = None
        with ExitStack() as stack:
            if show:
                self._window = Window(
                    "differnet", "Or leave out --show; --save keeps the pictures."
                )
                stack.callback(self._window.close)
            if output is not None:
                self._file = JsonLines(output)
                stack.callback(self._file.close)
            self._open = stack.pop_all()
        if self._table:
            print(HEADER, flush=True)

    def add(self, frame: Frame | None, inspection: Inspection) -> bool:
        """Passes one inspection on.

        Returns:
            False once the user has closed the window.

        Raises:
            OutputError: It can't be written.
        """
        if self._file is not None:
            self._file.add(inspection)
        if self._json or self._table:
            print(json_line(inspection) if self._json else table_line(inspection), flush=True)
        if frame is None or (self._save is None and self._window is None):
            return True
        picture = annotate(frame.image, inspection, self._metadata)
        if self._save is not None:
            write_image(self._save / saved_name(inspection), picture)
        return self._window is None or self._window.show(picture)

    def close(self) -> None:
        """Closes the file and the window."""
        self._open.close()


def table_line(inspection: Inspection) -> str:
    """Returns one line that fits under `HEADER`, the verdict coloured on a terminal.

    The name is followed by the reason of a NO_DECISION, or by the head that decided.
    """
    score, verdict = inspection.score, inspection.decision.verdict
    by = f"decided by {inspection.decided_by}" if inspection.decided_by else None
    remark = inspection.decision.reason or inspection.note or by
    cells = (
        coloured(verdict.value, _MEANINGS[verdict], sys.stdout),
        _number(score.value if score else None, ".5g"),
        _number(score.threshold if score else None, ".5g"),
        _number(score.good_percentile if score else None, ".1f"),
        _number(inspection.stages_ms.get("total", 0.0), ".1f"),
        f"{inspection.name}: {remark}" if remark else inspection.name,
    )
    return table([cells], least=_WIDTHS, right=_NUMBERS)


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def json_line(inspection: Inspection) -> str:
    """Returns the inspection's record as one line of JSON."""
    return json.dumps(inspection.record(), allow_nan=False)


def saved_name(inspection: Inspection) -> str:
    """Returns the file name of an annotated picture: its index, then its name in plain letters."""
    ending = Path(inspection.name).suffix
    stem = inspection.name.removesuffix(ending) if ending.lower() in SUFFIXES else inspection.name
    plain = re.sub(r"[^A-Za-z0-9._-]+", "_", stem)[-100:]
    return f"{inspection.index:06d}_{plain}.png"


class JsonLines:
    """A file to which one line of JSON is appended for each inspection, without buffering.

    Args:
        path: Appended to if it exists; a last line that was cut short is ended first.

    Raises:
        OutputError: It can't be written.

    Example:
        >>> JsonLines(Path("/dev/null")).close()
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with os_errors(OutputError, path):
            path.parent.mkdir(parents=True, exist_ok=True)
            # Unbuffered: a line is in the file before the next frame is read.
            self._file: BinaryIO = path.open("ab", buffering=0)
            if path.is_file() and path.stat().st_size > 0 and _last_byte(path) != b"\n":
                self._file.write(b"\n")

    def add(self, inspection: Inspection) -> None:
        """Appends one line.

        Raises:
            OutputError: It can't be written, for example because the disk is full.
        """
        rest = memoryview(json_line(inspection).encode() + b"\n")
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            raise OutputError(
                f"{self._path}: {error.strerror or error}. The verdict on {inspection.name} is not "
                "in the file; the run ends, for a verdict that is lost is worse than none."
            ) from error

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


def _last_byte(path: Path) -> bytes:
    with path.open("rb") as file:
        file.seek(-1, 2)
        return file.read(1)


class VerdictSummary:
    """Counts verdicts and keeps the latest latencies.

    Example:
        >>> VerdictSummary().frames
        0
    """

    def __init__(self) -> None:
        self._counts: Counter[Verdict] = Counter()
        self._latencies_ms: deque[float] = deque(maxlen=_LATENCIES_KEPT)

    def add(self, inspection: Inspection) -> None:
        """Counts one inspection; only frames that were scored have a latency."""
        self._counts[inspection.decision.verdict] += 1
        if inspection.score is not None:
            self._latencies_ms.append(inspection.stages_ms["total"])

    @property
    def frames(self) -> int:
        """Number of inspections."""
        return self._counts.total()

    @property
    def undecided(self) -> bool:
        """Whether no frame was judged."""
        return self._counts[Verdict.NO_DECISION] == self.frames

    def text(self, backend: str) -> str:
        """Returns counts, latency and backend on a line each."""
        counts = (f"{self._counts[verdict]} {verdict.value}" for verdict in Verdict)
        lines = [f"{self.frames} frames: {', '.join(counts)}"]
        if self._latencies_ms:
            p50, p95, p99 = np.percentile(self._latencies_ms, (50, 95, 99))
            lines.append(
                f"latency p50 {p50:.1f} ms, p95 {p95:.1f} ms, p99 {p99:.1f} ms "
                "(from the frame at hand to its verdict)"
            )
        lines.append(f"backend {backend}")
        return "\n".join(lines)


class Window:
    """A window that shows pictures.

    Args:
        title: The text in the title bar.
        instead: What to do without windows; the end of the error's message.

    Raises:
        OutputError: This machine or this OpenCV has no windows.

    Example:
        >>> Window("part", "Or save it.").show(image)  # doctest: +SKIP
        True
    """

    def __init__(self, title: str, instead: str) -> None:
        self._title = title
        hint = (
            "Windows need a desktop and OpenCV with a window: `pip uninstall "
            f"opencv-python-headless` first. {advice('opencv')} {instead}"
        )
        # With a desktop missing, some builds of OpenCV end the whole process.
        desktop = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
        if sys.platform == "linux" and not desktop:
            raise OutputError(f"no window can be opened: there is no desktop. {hint}")
        try:
            cv2.namedWindow(title, cv2.WINDOW_NORMAL)
        except cv2.error as error:
            raise OutputError(
                f"no window can be opened: this OpenCV is built without. {hint}"
            ) from error

    def show(self, picture: Image) -> bool:
        """Shows a picture; returns False once the user has pressed q."""
        cv2.imshow(self._title, picture)
        return cv2.waitKey(1) & 0xFF != ord("q")

    def choose_region(self, picture: Image) -> Region:
        """Lets the user drag a rectangle and accept it with Enter.

        Raises:
            DataError: No region was chosen, or it is too small.
        """
        x, y, width, height = cv2.selectROI(self._title, picture, showCrosshair=False)
        if min(width, height) < 8:
            raise DataError(
                f"no region was chosen, or it is too small ({width} x {height} pixels, at least "
                "8 x 8 are needed). Drag a rectangle and press Enter, or give it with --roi."
            )
        return Region(x=x, y=y, width=width, height=height)

    def close(self) -> None:
        """Closes the window."""
        cv2.destroyWindow(self._title)
