"""What `differnet run` makes of inspections: lines for people, lines of JSON, a summary."""

from __future__ import annotations

import json
from collections import Counter, deque
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import numpy as np

from differnet_runtime.errors import OutputError
from differnet_runtime.records import Inspection, Verdict

HEADER = f"{'verdict':<11}  {'score':>10}  {'threshold':>10}  {'good-pct':>8}  {'ms':>7}  name"

_LATENCIES_KEPT = 100_000


def table_line(inspection: Inspection) -> str:
    """Returns one line that fits under `HEADER`.

    After the name comes the reason of a NO_DECISION, or which head decided.
    """
    score = inspection.score
    remark = inspection.decision.reason or _decided_by(inspection)
    return (
        f"{inspection.decision.verdict.value:<11}"
        f"  {_number(score.value if score else None, '.5g'):>10}"
        f"  {_number(score.threshold if score else None, '.5g'):>10}"
        f"  {_number(score.good_percentile if score else None, '.1f'):>8}"
        f"  {inspection.stages_ms.get('total', 0.0):>7.1f}"
        f"  {inspection.name}{f': {remark}' if remark else ''}"
    )


def _decided_by(inspection: Inspection) -> str | None:
    if inspection.note:
        return inspection.note
    return f"decided by {inspection.decided_by}" if inspection.decided_by else None


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def json_line(inspection: Inspection) -> str:
    """Returns the inspection's record as one line of JSON."""
    return json.dumps(inspection.record(), allow_nan=False)


class JsonLines:
    """A file to which one line of JSON per inspection is added, each written at once.

    Args:
        path: Added to if it is there; a last line that was cut short is ended first.

    Raises:
        OutputError: It can't be written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            unended = path.is_file() and path.stat().st_size > 0 and _last_byte(path) != b"\n"
            # Unbuffered: a line is in the file when the next frame is read.
            self._file: BinaryIO = path.open("ab", buffering=0)
            if unended:
                self._file.write(b"\n")
        except OSError as error:
            raise OutputError(f"{path}: {error.strerror or error}") from error

    def add(self, inspection: Inspection) -> None:
        """Adds one line.

        Raises:
            OutputError: It can't be written, because the disk is full for example.
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

    def __enter__(self) -> JsonLines:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()


def _last_byte(path: Path) -> bytes:
    with path.open("rb") as file:
        file.seek(-1, 2)
        return file.read(1)


class Summary:
    """Counts verdicts and keeps the latest latencies."""

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
        """How many were inspected."""
        return self._counts.total()

    @property
    def undecided(self) -> bool:
        """Whether no frame at all was judged."""
        return self._counts[Verdict.NO_DECISION] == self.frames

    def text(self, backend: str) -> str:
        """Returns counts, latency and backend, in one line each."""
        counts = ", ".join(f"{self._counts[verdict]} {verdict.value}" for verdict in Verdict)
        lines = [f"{self.frames} frames: {counts}"]
        if self._latencies_ms:
            p50, p95, p99 = np.percentile(self._latencies_ms, (50, 95, 99))
            lines.append(
                f"latency p50 {p50:.1f} ms, p95 {p95:.1f} ms, p99 {p99:.1f} ms "
                "(from the frame at hand to its verdict)"
            )
        lines.append(f"backend {backend}")
        return "\n".join(lines)
