"""Frame to score: the model file, its preprocessing and a backend, held together."""

from __future__ import annotations

import os
import time
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from .backends import Backend, Outputs
from .calibration import judged
from .errors import BackendError
from .images import read_image
from .metadata import ModelMetadata, check_views
from .model_file import read_model_file
from .preprocess import golden_frames, preprocess
from .records import Image, Score
from .selection import choose


def named_heads(heads: NDArray[np.float32] | None, metadata: ModelMetadata) -> dict[str, float]:
    """Returns the scores of one frame's heads by their names.

    Args:
        heads: `(1, H) float32`, as the graph gives them; None where it has no such output.
        metadata: Of the model, with the names of its H heads.

    Returns:
        Empty where the graph gives none, or the metadata names none.

    Raises:
        BackendError: The graph gives another number of scores than there are heads.
    """
    if heads is None or not metadata.heads:
        return {}
    expected = (1, len(metadata.heads))
    if heads.shape != expected:
        raise BackendError(
            f"the graph gives scores of heads in the shape {heads.shape}, but the file names "
            f"{len(metadata.heads)} heads: {expected} is expected. Export the model again."
        )
    values = map(float, heads[0])
    return dict(zip((head.name for head in metadata.heads), values, strict=True))


class Detector:
    """Scores frames with an exported model.

    Args:
        model: Path of a file that `differnet export` wrote.
        backend: `auto`, or a name that `open_backend` knows.
        threads: CPU threads for inference; 0 lets the backend choose.

    Raises:
        ModelFileError: The file can't be used.
        ViewsError: The file's views were never trained, or can't be had with its input.
        BackendError: No backend can run it.

    Example:
        >>> with Detector("part.onnx") as detector:  # doctest: +SKIP
        ...     score = detector("part.png")
    """

    def __init__(
        self, model: str | os.PathLike[str], *, backend: str = "auto", threads: int = 0
    ) -> None:
        data, self.metadata = read_model_file(model)
        check_views(self.metadata.views, self.metadata.input)
        choice = choose(backend, data, path=Path(model), threads=threads)
        self._backend = choice.backend
        self.not_better = choice.reasons
        """Why `auto` took no better backend, by the name of each."""
        self._frame = self._backend.buffer((1, *self.metadata.input.shape))
        self.stages_ms: dict[str, float] = {}
        """Milliseconds that the last call spent in `preprocess` and `infer`."""

    @classmethod
    def over(cls, backend: Backend, metadata: ModelMetadata) -> Detector:
        """Returns a detector over an open backend (the fake one, in tests)."""
        detector = cls.__new__(cls)
        detector.metadata, detector._backend, detector.stages_ms = metadata, backend, {}
        detector.not_better = {}
        detector._frame = backend.buffer((1, *metadata.input.shape))
        return detector

    @property
    def backend(self) -> str:
        """Name of the backend that really runs."""
        return self._backend.name

    def __call__(self, frame: Image | str | os.PathLike[str]) -> Score:
        """Scores one frame.

        Args:
            frame: `(H, W, 3)` BGR or `(H, W)` grey, uint8 or uint16, of any size; or the path of
                a picture file.

        Returns:
            The raw score, with threshold and good-percentile where the model is calibrated.

        Raises:
            FrameError: The frame does not fit the model's input contract.
            ImageReadError: The file is no picture, or can't be read.
            BackendError: Inference failed.
        """
        if isinstance(frame, (str, os.PathLike)):
            frame = read_image(Path(frame))
        start = time.perf_counter()
        prepared = preprocess(frame, self.metadata.input, self._frame[0])
        ready = time.perf_counter()
        found, heads = self._infer(prepared)
        done = time.perf_counter()
        self.stages_ms = {"preprocess": (ready - start) * 1e3, "infer": (done - ready) * 1e3}
        return judged(
            float(found.scores[0]),
            self.metadata.calibration,
            None if found.heatmaps is None else found.heatmaps[0],
            heads,
        )

    def score_input(self, prepared: NDArray[np.uint8]) -> float:
        """Scores one frame that is already the graph's input.

        Args:
            prepared: `metadata.input.shape` uint8, as `preprocess` gives it.

        Raises:
            BackendError: Inference failed.
        """
        return float(self._infer(prepared)[0].scores[0])

    def outputs(self, prepared: NDArray[np.uint8]) -> Outputs:
        """Runs the graph on one frame that is already its input, and checks nothing."""
        return self._backend.infer(prepared[None])

    def _infer(self, prepared: NDArray[np.uint8]) -> tuple[Outputs, dict[str, float]]:
        found = self.outputs(prepared)
        if found.scores.shape != (1,):
            raise BackendError(
                f"{self.backend} gave scores of shape {found.scores.shape}, expected (1,)"
            )
        return found, named_heads(found.heads, self.metadata)

    def self_test(self, limit: float = 1e-2) -> float:
        """Scores the golden frames and compares them with those written in the file.

        Args:
            limit: Greatest relative difference allowed (1e-2 leaves room for FP16).

        Returns:
            The greatest relative difference found.

        Raises:
            BackendError: It exceeds the limit: this device does not compute this model.
        """
        if self.metadata.verification is None:
            raise BackendError("the model file holds no golden scores; export it again")
        expected = np.array(self.metadata.verification.golden_scores)
        frames = golden_frames(self.metadata.input, len(expected))
        actual = np.array([self.score_input(frame) for frame in frames])
        difference = float(np.max(np.abs(actual - expected) / np.maximum(np.abs(expected), 1e-12)))
        if not difference <= limit:
            raise BackendError(
                f"{self.backend} scores the golden frames {actual.tolist()}, but the file says "
                f"{expected.tolist()} (relative difference {difference:.2g}, limit {limit:g})"
            )
        return difference

    def close(self) -> None:
        """Releases the backend."""
        self._backend.close()

    def __enter__(self) -> Detector:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
