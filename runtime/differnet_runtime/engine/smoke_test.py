"""The first run of a new engine: does it give the scores that are written in the model file?"""

from __future__ import annotations

import numpy as np

from ..backends import Backend
from ..errors import EngineError
from ..metadata import ModelMetadata
from ..preprocess import golden_frames
from .store import SmokeTest

LIMIT = 1e-2
"""Greatest relative difference allowed: room for FP16, and for the order of sums."""

INT8_LIMIT = 5e-2
"""The same in an INT8 file: a sum that is rounded elsewhere may reach another level."""


def smoke_test(backend: Backend, metadata: ModelMetadata, batch: int) -> SmokeTest:
    """Scores the golden frames in every place of a batch.

    Args:
        backend: Over the new engine.
        metadata: Of its model.
        batch: Frames that the engine takes at once.

    Raises:
        BackendError: It does not run.
        EngineError: It gives other scores than the model file says, or that file has none.
    """
    if metadata.verification is None:
        raise EngineError(
            "the model file holds no golden scores, so an engine can't be tested: export it again"
        )
    expected = np.array(metadata.verification.golden_scores)
    frames = golden_frames(metadata.input, len(expected))
    scores = np.array([backend.infer(np.repeat(frame[None], batch, axis=0)).scores
                       for frame in frames], np.float64)  # fmt: skip
    relative = np.abs(scores - expected[:, None]) / np.maximum(np.abs(expected[:, None]), 1e-12)
    difference = float(np.max(relative))
    limit = INT8_LIMIT if metadata.precision == "int8" else LIMIT
    if not difference <= limit:  # NaN, too
        raise EngineError(
            f"the new engine scores the golden frames {scores[:, 0].tolist()}, but the model file "
            f"says {expected.tolist()} (relative difference {difference:.2g}, limit {limit:g}). "
            "It was thrown away. Build it with another --level, or export with --precision fp32; "
            "`differnet doctor` shows the versions to report this with."
        )
    return SmokeTest(scores=tuple(scores[:, 0].tolist()), relative_difference=difference)
