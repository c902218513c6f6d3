"""Records how a model was trained, and how its exported graph compares with it."""

from __future__ import annotations

from .contract import Part


class Provenance(Part):
    """How a model was trained."""

    recipe: str
    seed: int
    images: int
    epochs: int
    data_sha256: str
    created: str
    versions: dict[str, str]


class HalfPrecision(Part):
    """How FP16 changed the model's weights and scores, on the frames that export ran.

    Args:
        weights: How many weights are stored in FP16.
        subnormal_share: Share of these, zeros not counted, too small for FP16's full precision.
        median_relative_error: Median error of the scores, emulated FP16 against FP32.
        greatest_relative_error: Greatest error of the scores, likewise.
    """

    weights: int
    subnormal_share: float
    median_relative_error: float
    greatest_relative_error: float


class Verification(Part):
    """Compares the exported graph with the trained model, on the frames that export ran.

    Args:
        frames: Number of frames: golden and extreme ones, and the available calibration pictures.
        greatest_relative_difference: Greatest difference of the FP32 graph's scores from torch's.
        golden_scores: Scores that the graph, as stored in the file, gives the golden frames.
        half: Effects of FP16; only in an FP16 file.
    """

    frames: int
    greatest_relative_difference: float
    golden_scores: tuple[float, ...]
    half: HalfPrecision | None = None
