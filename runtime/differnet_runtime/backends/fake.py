"""A backend without a model, for tests and for trying a camera setup or a station under faults."""

from __future__ import annotations

import contextlib
import ctypes
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import BackendError, BackendUnavailableError
from .base import Backend, Outputs

PREFIX = "fake"
FAULTS = ("hang", "raise", "segfault", "nan", "shape", "slow")
SLOW_S = 0.5
_HANG_S = 1e6
_MS = r"(\d+(?:\.\d+)?)ms"
_LATENCY = re.compile(rf"{_MS}(?:\+{_MS})?")
_FAULT = re.compile(rf"({'|'.join(FAULTS)})@(\d+)")


@dataclass(frozen=True)
class FakeOptions:
    """Behaviour of the fake backend.

    Args:
        latency_s: Seconds that each batch takes.
        frame_s: Additional seconds for each frame.
        faults: Name of the fault by the batch's number, from 1 on; 0 is while it opens.
        file: Each line in this file is the fault of another batch; it is removed once it is read.
    """

    latency_s: float = 0.0
    frame_s: float = 0.0
    faults: dict[int, str] = field(default_factory=dict)
    file: Path | None = None

    @classmethod
    def parse(cls, name: str) -> FakeOptions:
        """Reads `fake`, `fake:100ms`, `fake:10ms+2ms,hang@50,nan@60`, `fake:faults=/run/next`.

        Raises:
            BackendUnavailableError: The text is of another form.
        """
        latency_s, frame_s, faults, file = 0.0, 0.0, {}, None
        for part in filter(None, name.removeprefix(PREFIX).removeprefix(":").split(",")):
            if found := _LATENCY.fullmatch(part):
                latency_s, frame_s = float(found[1]) / 1e3, float(found[2] or 0) / 1e3
            elif found := _FAULT.fullmatch(part):
                faults[int(found[2])] = found[1]
            elif part.startswith("faults="):
                file = Path(part.removeprefix("faults="))
            else:
                raise BackendUnavailableError(
                    f"the fake backend does not know {part!r}; give a latency (100ms, or "
                    "10ms+2ms with 2 ms for each frame of a batch), a fault at a batch "
                    f"({', '.join(f'{fault}@50' for fault in FAULTS)}) or faults=FILE"
                )
        return cls(latency_s, frame_s, faults, file)


class FakeBackend(Backend):
    """Scores each frame by a function of its pixels; the mean brightness by default.

    Args:
        score: Returns the score of a frame.
        options: Latency and faults; see `FakeOptions.parse`.
        heads: Returns the scores of a frame's heads, in their order; the greatest is its score.

    Example:
        >>> FakeBackend().infer(np.full((2, 8, 8, 3), 7, np.uint8)).scores.tolist()
        [7.0, 7.0]
    """

    name = PREFIX

    def __init__(
        self,
        score: Callable[[NDArray[np.uint8]], float] | None = None,
        options: FakeOptions | None = None,
        heads: Callable[[NDArray[np.uint8]], Sequence[float]] | None = None,
    ) -> None:
        self._score = score or (lambda frame: float(frame.mean()))
        self._heads = heads
        self._options = options or FakeOptions()
        self._batches = 0
        self._waiting: list[str] = []
        _suffer(self._options.faults.get(0))

    def infer(self, batch: NDArray[np.uint8]) -> Outputs:
        """Returns a score for each frame; see `Backend.infer`."""
        self._batches += 1
        fault = self._options.faults.get(self._batches) or self._from_file()
        if taken_s := self._options.latency_s + len(batch) * self._options.frame_s:
            time.sleep(taken_s)
        _suffer(fault)
        if fault == "shape":
            return Outputs(np.zeros((len(batch) + 1, 2), np.float32))
        if fault == "nan":
            return Outputs(np.full(len(batch), np.nan, np.float32))
        if self._heads is not None:
            heads = np.array([self._heads(frame) for frame in batch], np.float32)
            return Outputs(heads.max(axis=1), heads=heads)
        return Outputs(np.array([self._score(frame) for frame in batch], np.float32))

    def _from_file(self) -> str | None:
        if self._options.file is not None:
            with contextlib.suppress(FileNotFoundError):
                self._waiting += self._options.file.read_text().split()
                self._options.file.unlink()
        return self._waiting.pop(0) if self._waiting else None

    def close(self) -> None:
        """Does nothing."""


def _suffer(fault: str | None) -> None:
    if fault in ("hang", "slow"):
        time.sleep(_HANG_S if fault == "hang" else SLOW_S)
    if fault == "segfault":
        ctypes.string_at(0)
    if fault == "raise":
        raise BackendError("the fake backend was told to fail")
