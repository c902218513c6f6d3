"""Where a model comes from, and what its export compared."""

from __future__ import annotations

from .contract import Part


class Provenance(Part):
    """Where a model comes from."""

    recipe: str
    seed: int
    images: int
    epochs: int
    data_sha256: str
    created: str
    versions: dict[str, str]


class HalfPrecision(Part):
    """What FP16 did to the model, on the frames that export ran.

    Args:
        weights: How many are stored in FP16.
        subnormal_share: Share of them, zeros apart, too small for FP16's full precision.
        median_relative_error: Of the scores, emulated FP16 against FP32.
        greatest_relative_error: Likewise.
    """

    weights: int
    subnormal_share: float
    median_relative_error: float
    greatest_relative_error: float


class Verification(Part):
    """The exported graph against the trained model, on the frames that export ran.

    Args:
        frames: How many: golden and extreme ones, and the calibration pictures at hand.
        greatest_relative_difference: Of the FP32 graph's scores against torch's.
        golden_scores: What the graph, as it is in the file, gives for the golden frames.
        half: In an FP16 file.
    """

    frames: int
    greatest_relative_difference: float
    golden_scores: tuple[float, ...]
    half: HalfPrecision | None = None
