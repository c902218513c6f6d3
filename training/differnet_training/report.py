"""The report: one HTML file that needs nothing else, the same as JSON, and a text table.

The report's section on the threshold: table, slider, confusion matrix, costs.

The report's section on what the model can see: a chart, sentences and a table.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from differnet_runtime.files import write_bytes
from differnet_runtime.inspection.operating_points import OperatingPoint
from differnet_runtime.model_file.detection_limits import (
    DEFECT_WORDS,
    DetectionLimit,
    DetectionLimits,
    basis,
    outdated,
    sentences,
    warning,
)
from differnet_runtime.model_file.metadata import ModelMetadata
from differnet_runtime.records import WORDS
from differnet_runtime.text import table

from . import charts
from .advice import missed
from .charts import Section, render
from .metrics import rate
from .pictures import THUMBNAIL, look_section, thumbnail
from .results import ImageResult, Localization, Report

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
        "rows": tuple(_limit_row(limit, limits) for limit in limits.limits),
    }
    return [Section("limits", values)]


def _limit_row(limit: DetectionLimit, limits: DetectionLimits) -> tuple[str, str, str, str]:
    contrast = "-" if limit.contrast is None else str(limit.contrast)
    if not limit.painted:
        sizes = "could not be painted", "-"
    elif limit.size is None:
        sizes = f"not up to {limits.largest_in_picture}", f"not up to {limits.largest}"
    else:
        sizes = str(limit.picture_size), str(limit.size)
    return (DEFECT_WORDS[limit.kind], contrast, *sizes)


LONGEST_SIDE = 1600
"""Of a picture in the page, in pixels."""

PIXELS = 60_000_000
"""Of all pictures in the page together, about: 15 to 30 MB."""


def write_report(report: Report, folder: Path) -> Path:
    """Writes `report.json` and `report.html`.

    Returns:
        The path of the HTML file.

    Raises:
        OutputError: They can't be written.
    """
    write_bytes(folder / "report.json", report.model_dump_json(indent=1).encode())
    path = folder / "report.html"
    write_bytes(path, render(report.name, sections(report)).encode())
    return path


def sections(report: Report) -> list[Section]:
    """Returns the page's sections, from top to bottom; one more is one more entry here."""
    charted = {"charts": _charts(report), "earns_its_place": report.earns_its_place}
    return [
        *look_section(report.look, report.model),
        Section("summary", {"report": report, "origin": _origin(report), "rows": _rows(report)}),
        *threshold_section(report),
        *limit_section(report.model),
        *_galleries(report),
        Section("charts", charted),
        Section("heads", {"report": report, "head_words": WORDS}),
        Section("kinds", {"report": report}),
        Section("origin", {"report": report, "head_words": WORDS}),
    ]


def summary_table(report: Report) -> str:
    """Returns the report's head as a text table."""
    return table(_rows(report))


def false_rejects(report: Report) -> list[ImageResult]:
    """Returns good parts that were rejected, the highest score first."""
    rejected = [r for r in report.results if r.label == "good" and r.verdict != "GOOD"]
    return sorted(rejected, key=lambda r: -(r.score if r.score is not None else float("inf")))


def _rows(report: Report) -> list[tuple[str, str]]:
    good, defect = report.good or "no", report.defect or "no"
    rows = [("pictures", f"{good} good, {defect} defective, unseen in training")]
    if report.note:
        rows.append(("data", report.note))
    if (auroc := report.image_auroc) is not None:
        interval = f"95 % interval {auroc.low:.3f} to {auroc.high:.3f}"
        rows.append(("image AUROC", f"{auroc.value:.3f}  ({interval})"))
    if report.image_aupr is not None:
        rows.append(("image AUPR", f"{report.image_aupr:.3f}"))
    rows += [*_verdicts(report), *_costs(report)]
    if report.no_decision:
        rows.append(("no decision", _undecided(report)))
    for name, baseline in (report.baselines or {}).items():
        rows.append((name.replace("_", " "), f"{baseline.value:.3f} image AUROC, same features"))
    if report.latency_ms is not None:
        latency = report.latency_ms
        rows.append(
            (
                "latency",
                f"p50 {latency['p50']:.1f} ms, p95 {latency['p95']:.1f} ms, "
                f"p99 {latency['p99']:.1f} ms a frame, by {report.scored_by}",
            )
        )
    if report.machine is not None:
        rows.append(("measured on", _machine(report.machine)))
    if report.seeds is not None:
        seeds = report.seeds
        rows.append(
            (
                "seeds",
                f"{len(seeds.seeds)} flows: {seeds.mean:.4f} +- {seeds.standard_deviation:.4f}",
            )
        )
    if report.localization is not None:
        rows += _localization(report.localization)
    return rows


def _undecided(report: Report) -> str:
    found = report.undecided
    codes = ", ".join(f"{count} {code}" for code, count in found.codes.items())
    uncertain = f", {found.uncertain} uncertain" if found.uncertain else ""
    return (
        f"{report.no_decision}, counted as rejected: {codes} "
        f"({found.good} good, {found.defect} defective{uncertain})"
    )


def _verdicts(report: Report) -> list[tuple[str, str]]:
    """Returns the threshold, and what it rejects and misses."""
    if report.threshold is None:
        return [("threshold", "none: run `differnet calibrate`")]
    rows = []
    if report.threshold != report.model_threshold:
        own = "none" if report.model_threshold is None else f"{report.model_threshold:.4g}"
        rows.append(("threshold", f"{report.threshold:g}, as given (the model's own: {own})"))
    for name, figure in (("false rejects", report.false_reject), ("misses", report.miss)):
        if figure is not None:
            interval = f"{figure.low:.1%} to {figure.high:.1%}"
            rows.append((name, f"{figure.count} of {figure.of} = {figure.value:.1%}  ({interval})"))
    return rows


def _costs(report: Report) -> list[tuple[str, str]]:
    """Returns the expected cost at the threshold in use, and the cheapest threshold."""
    best, costs = report.cheapest, report.costs
    if best is None or costs is None:
        return []
    rows, assumed = [], f"for 1,000 parts, if {100 * costs.defect_share:g} % are defective"
    rows += [
        ("expected cost", f"{point.cost:.4g} {assumed}")
        for point in report.operating_points
        if point.threshold == report.threshold
    ]
    if best.threshold == report.threshold:
        return [*rows, ("cheapest", "the threshold in use")]
    wrong = f"{best.false_rejects} false rejects and {best.misses} misses"
    return [
        *rows,
        ("cheapest", f"threshold {best.threshold!r}: {best.cost:.4g} {assumed}, with {wrong}"),
    ]


def _localization(found: Localization) -> list[tuple[str, str]]:
    rows = [("heatmaps", f"{found.drawn} defective pictures in {found.folder}")]
    if found.pixel_auroc is not None and found.aupro is not None:
        shown = f"{found.pixel_auroc:.3f}, AUPRO {found.aupro:.3f}"
        rows.append(("pixel AUROC", f"{shown}  ({found.with_masks} pictures with masks)"))
    rows += [("unusable mask", line) for line in found.unusable_masks]
    return rows


def _machine(machine: dict[str, str]) -> str:
    about = dict(machine)
    head = f"{about.pop('processor')}, {about.pop('cores')} cores, {about.pop('system')}; "
    return head + ", ".join(f"{name} {version}" for name, version in about.items())


def _origin(report: Report) -> str:
    provenance = report.model.provenance
    if provenance.images == 0:
        name = provenance.recipe[:1].upper() + provenance.recipe[1:]
        return f"{name}; how many good pictures it learned from is not known."
    return (
        f"Learned from {provenance.images} good pictures (recipe {provenance.recipe}, "
        f"seed {provenance.seed})."
    )


def _charts(report: Report) -> dict[str, str]:
    return {
        "Scores": charts.histogram(report),
        "ROC": charts.roc_curves(report),
        "Does the flow earn its place?": charts.comparison(report),
        "Training": charts.training_curves(report),
    }


def _galleries(report: Report) -> list[Section]:
    """Returns every miss and every false reject, the worst first."""
    misses, rejects = missed(report), false_rejects(report)
    side = _side(len(misses) + len(rejects))
    return [
        _gallery(report, "Misses: defects judged good", misses, side, "No defect was judged good."),
        _gallery(report, "False rejects: good parts rejected", rejects, side,
                 "No good part was rejected."),
    ]  # fmt: skip


def _side(pictures: int) -> int:
    """Returns the longest side of a picture in the page, so that all of them fit."""
    return int(min(LONGEST_SIDE, max(THUMBNAIL, (PIXELS / max(1, pictures)) ** 0.5)))


def _gallery(
    report: Report, title: str, results: Sequence[ImageResult], side: int, empty: str
) -> Section:
    model = report.model
    if report.threshold is None:
        empty = "Without a threshold there are no verdicts."
    pictures = [
        thumbnail(
            Path(result.path),
            model.input,
            _caption(result),
            heatmap=result.heatmap,
            windows=model.windows,
            mask=None if result.mask is None else Path(result.mask),
            side=side,
        )
        for result in results
    ]
    note = f"The worst first. A click shows what the model saw, at up to {side} pixels a side."
    return Section("gallery", {"title": title, "pictures": pictures, "note": note, "empty": empty})


def _caption(result: ImageResult) -> tuple[str, str]:
    score = "not finite" if result.score is None else f"{result.score:.3g}"
    remark = f" ({result.code})" if result.code else ""
    name = Path(result.path.replace("\\", "/")).name
    return name, f"{result.kind}, score {score}{remark}"
