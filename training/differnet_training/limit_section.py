"""The report's section on what the model can see: a chart, sentences and a table."""

from __future__ import annotations

from dataclasses import dataclass

from differnet_runtime.detection_limits import (
    WORDS,
    DetectionLimit,
    DetectionLimits,
    basis,
    outdated,
    sentences,
    warning,
)
from differnet_runtime.metadata import ModelMetadata

from . import charts


@dataclass(frozen=True)
class LimitSection:
    """What `limits.html.j2` shows.

    Args:
        chart: SVG.
        basis: How the limits were measured.
        warnings: That the model must not be used, or that the threshold has changed since.
        sentences: One for each kind of defect.
        rows: The cells of the table: kind, contrast, size in pixels of the picture, of the input.
    """

    chart: str
    basis: str
    warnings: tuple[str, ...]
    sentences: tuple[str, ...]
    rows: tuple[tuple[str, str, str, str], ...]


def limit_section(metadata: ModelMetadata) -> LimitSection | None:
    """Returns what the report shows of a model's detection limits; None where it has none."""
    limits, calibration = metadata.detection_limits, metadata.calibration
    if limits is None:
        return None
    changed = outdated(limits, calibration.threshold) if calibration else None
    return LimitSection(
        chart=charts.detection_limits(limits),
        basis=basis(limits),
        warnings=tuple(filter(None, (warning(limits), changed))),
        sentences=tuple(sentences(limits).values()),
        rows=tuple(_row(limit, limits) for limit in limits.limits),
    )


def _row(limit: DetectionLimit, limits: DetectionLimits) -> tuple[str, str, str, str]:
    contrast = "-" if limit.contrast is None else str(limit.contrast)
    if not limit.painted:
        sizes = "could not be painted", "-"
    elif limit.size is None:
        sizes = f"not up to {limits.largest_in_picture}", f"not up to {limits.largest}"
    else:
        sizes = str(limit.picture_size), str(limit.size)
    return (WORDS[limit.kind], contrast, *sizes)
