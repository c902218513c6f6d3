"""Detection limits as a model may carry them."""

from __future__ import annotations

from differnet_runtime.model_file.detection_limits import (
    DefectKind,
    DetectionLimit,
    DetectionLimits,
)

SCALE = 2.5


def limit(
    kind: DefectKind, contrast: int | None, size: int | None, painted: int = 20
) -> DetectionLimit:
    """A limit, with the size in the picture that belongs to it."""
    of_picture = None if size is None else round(size * SCALE)
    return DetectionLimit(
        kind=kind, contrast=contrast, size=size, picture_size=of_picture, painted=painted
    )


def limits(*lines: DetectionLimit, usable: bool = True, threshold: float = 2.0) -> DetectionLimits:
    """Limits of one model; a few usual ones where none are given."""
    usual = (
        limit("dark_spot", 20, 23),
        limit("dark_spot", 40, 11),
        limit("dark_spot", 80, 6),
        limit("scratch", 20, None),
        limit("scratch", 40, None),
        limit("scratch", 80, 32),
        limit("blur", None, 45),
    )
    return DetectionLimits(
        threshold=threshold,
        share=0.9,
        judged_by="fold",
        pictures=14,
        picture_scale=SCALE,
        largest=128,
        sensible=28,
        limits=lines or usual,
        usable=usable,
    )
