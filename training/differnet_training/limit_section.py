"""The report's section on what the model can see: a chart, sentences and a table."""

from __future__ import annotations

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
from .page import Section


def limit_section(metadata: ModelMetadata) -> list[Section]:
    """Returns the section on a model's detection limits; none where it has none."""
    limits, calibration = metadata.detection_limits, metadata.calibration
    if limits is None:
        return []
    changed = outdated(limits, calibration.threshold) if calibration else None
    values = {
        "chart": charts.detection_limits(limits),
        "basis": basis(limits),
        "warnings": tuple(filter(None, (warning(limits), changed))),
        "sentences": tuple(sentences(limits).values()),
        "rows": tuple(_row(limit, limits) for limit in limits.limits),
    }
    return [Section("limits", values)]


def _row(limit: DetectionLimit, limits: DetectionLimits) -> tuple[str, str, str, str]:
    contrast = "-" if limit.contrast is None else str(limit.contrast)
    if not limit.painted:
        sizes = "could not be painted", "-"
    elif limit.size is None:
        sizes = f"not up to {limits.largest_in_picture}", f"not up to {limits.largest}"
    else:
        sizes = str(limit.picture_size), str(limit.size)
    return (WORDS[limit.kind], contrast, *sizes)
