"""Where the verdicts of `differnet run` go: standard output, a file, pictures, a window."""

from __future__ import annotations

import re
import sys
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from differnet_runtime.colour import Meaning, coloured
from differnet_runtime.endings import SUFFIXES
from differnet_runtime.images import write_image
from differnet_runtime.metadata import ModelMetadata
from differnet_runtime.overlay import annotate
from differnet_runtime.records import Frame, Inspection, Verdict

from .verdicts import HEADER, JsonLines, json_line, table_line
from .window import Window

_MEANINGS: dict[Verdict, Meaning] = {
    Verdict.GOOD: "good",
    Verdict.DEFECT: "bad",
    Verdict.NO_DECISION: "look",
}


class Sinks:
    """All that becomes of one inspection after another.

    Args:
        output: File for lines of JSON; without it (and without `json`) a table is printed.
        json: Print lines of JSON.
        save: Folder for annotated pictures.
        show: Show them in a window.
        metadata: The model's, for the heatmap on the pictures.

    Raises:
        OutputError: One of them can't be opened.
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
        with ExitStack() as stack:
            self._window = None
            if show:
                self._window = Window(
                    "differnet", "Or leave out --show; --save keeps the pictures."
                )
                stack.callback(self._window.close)
            self._file = stack.enter_context(JsonLines(output)) if output is not None else None
            self._open = stack.pop_all()
        if self._table:
            print(HEADER, flush=True)

    def add(self, frame: Frame | None, inspection: Inspection) -> bool:
        """Passes one inspection on.

        Returns:
            False once the user has closed the run in its window.

        Raises:
            OutputError: It can't be written.
        """
        if self._file is not None:
            self._file.add(inspection)
        if self._json:
            print(json_line(inspection), flush=True)
        if self._table:
            print(_in_colour(inspection), flush=True)
        if frame is None or (self._save is None and self._window is None):
            return True
        picture = annotate(frame.image, inspection, self._metadata)
        if self._save is not None:
            write_image(self._save / saved_name(inspection), picture)
        return self._window is None or self._window.show(picture)

    def __enter__(self) -> Sinks:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._open.close()


def _in_colour(inspection: Inspection) -> str:
    """Returns the table's line, its verdict in colour on a terminal."""
    line, verdict = table_line(inspection), inspection.decision.verdict
    word = coloured(verdict.value, _MEANINGS[verdict], sys.stdout)
    return word + line.removeprefix(verdict.value)


def saved_name(inspection: Inspection) -> str:
    """Returns the file name of an annotated picture: index, then what is plain of its name."""
    ending = Path(inspection.name).suffix
    stem = inspection.name.removesuffix(ending) if ending.lower() in SUFFIXES else inspection.name
    plain = re.sub(r"[^A-Za-z0-9._-]+", "_", stem)[-100:]
    return f"{inspection.index:06d}_{plain}.png"
