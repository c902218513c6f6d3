"""The report's section on the threshold: table, slider, confusion matrix, costs."""

from __future__ import annotations

from collections.abc import Sequence

from differnet_runtime.operating_points import OperatingPoint

from .metrics import rate
from .page import Section
from .results import Report

RATES = (0.0, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
"""Shares of good parts rejected, or else of defects missed, that the table has a row for."""

WIDTH, HEIGHT = 1000, 200
"""Of the chart, in its own units."""


def threshold_section(report: Report) -> list[Section]:
    """Returns the section, or nothing where no score is finite."""
    points = report.operating_points
    if not points:
        return []
    start = _start(report)
    return [
        Section(
            "threshold",
            {
                "report": report,
                "rows": [_row(report, point) for point in chosen(report)],
                "now": _row(report, points[start]),
                "curves": _curves(report),
                "ticks": [points[round(k * (len(points) - 1) / 4)].threshold for k in range(5)],
                "width": WIDTH,
                "height": HEIGHT,
                "data": {
                    "start": start,
                    "good": report.good,
                    "defect": report.defect,
                    "points": [[p.threshold, p.false_rejects, p.misses] for p in points],
                },
            },
        )
    ]


def chosen(report: Report) -> list[OperatingPoint]:
    """Returns the table's points, the lowest threshold first.

    They are those at round false-reject rates (or miss rates, without good parts), the one in use
    and the cheapest.
    """
    points = report.operating_points
    found = {point.threshold: point for point in points if _in_use(report, point)}
    if report.cheapest is not None:
        found[report.cheapest.threshold] = report.cheapest
    for share in RATES:
        point = _at_false_rejects(points, share * report.good)
        if not report.good:
            point = _at_misses(points, share * report.defect)
        if point is not None and not any(_same(point, other) for other in found.values()):
            found[point.threshold] = point
    return [found[threshold] for threshold in sorted(found)]


def _at_false_rejects(points: Sequence[OperatingPoint], most: float) -> OperatingPoint | None:
    """Returns the lowest threshold with few enough false rejects: it misses least."""
    return next((point for point in points if point.false_rejects <= most), None)


def _at_misses(points: Sequence[OperatingPoint], most: float) -> OperatingPoint | None:
    """Returns the highest threshold with few enough misses: it rejects least."""
    return next((point for point in reversed(points) if point.misses <= most), None)


def _same(first: OperatingPoint, second: OperatingPoint) -> bool:
    return (first.false_rejects, first.misses) == (second.false_rejects, second.misses)


def _in_use(report: Report, point: OperatingPoint) -> bool:
    return point.threshold == report.threshold


def _start(report: Report) -> int:
    """Returns the position of the threshold in use, or of one at 5 % false rejects."""
    points = report.operating_points
    for position, point in enumerate(points):
        if _in_use(report, point):
            return position
    usual = _at_false_rejects(points, 0.05 * report.good)
    return 0 if usual is None else points.index(usual)


def _row(report: Report, point: OperatingPoint) -> dict[str, object]:
    labels = [
        word
        for word, holds in (
            ("in use", _in_use(report, point)),
            ("cheapest", point == report.cheapest),
        )
        if holds
    ]
    return {
        "point": point,
        "labels": labels,
        "false_reject": rate(point.false_rejects, report.good) if report.good else None,
        "miss": rate(point.misses, report.defect) if report.defect else None,
    }


def _curves(report: Report) -> dict[str, str]:
    """Returns the steps of both rates over the thresholds' positions, as SVG paths."""
    points, curves = report.operating_points, {}
    if report.good:
        curves["rejects"] = _path([point.false_rejects / report.good for point in points])
    if report.defect:
        curves["misses"] = _path([point.misses / report.defect for point in points])
    return curves


def _path(shares: Sequence[float]) -> str:
    across = WIDTH / max(1, len(shares) - 1)
    places = [(f"{k * across:.1f}", f"{HEIGHT * (1 - y):.1f}") for k, y in enumerate(shares)]
    return "M" + " L".join(f"{x} {y}" for x, y in places)
