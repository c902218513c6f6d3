"""The report of an evaluation: an HTML page, the same as JSON, and a text table.

`write_look_page` writes the page on the normal images that training leaves beside the model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

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

from .advice import missed
from .model import read_training
from .page import (
    THUMBNAIL,
    Section,
    Thumbnail,
    draw_charts,
    limits_chart,
    thumbnail,
    write_page,
)
from .results import ImageResult, Localization, Report, rate

LOOK_HTML = "look.html"

RATES = (0.0, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
"""False-reject rates (miss rates, without good parts) that have a row in the threshold table."""

WIDTH, HEIGHT = 1000, 200
"""Size of the threshold chart in its own units."""

LONGEST_SIDE, LOOK_SIDE = 1600, 640
"""Longest side in pixels of an image among the misses and false rejects, and on the look page."""

PIXELS = 60_000_000
"""About how many pixels all misses and false rejects have together: 15 to 30 MB."""

LOOK_MOST = 24
"""Most images shown of each kind on the look page."""


def write_report(report: Report, folder: Path) -> Path:
    """Writes `report.json` and `report.html`; returns the path of the HTML file.

    Raises:
        OutputError: They can't be written.
    """
    write_bytes(folder / "report.json", report.model_dump_json(indent=1).encode())
    path = folder / "report.html"
    everything = {"report": report, "head_words": WORDS}
    sections = [
        *look_section(report.look, report.model),
        ("summary", {"report": report, "origin": _origin(report), "rows": _rows(report)}),
        *threshold_section(report),
        *limit_section(report.model),
        *_galleries(report),
        ("charts", {"charts": draw_charts(report), "earns_its_place": report.earns_its_place}),
        ("heads", everything),
        ("kinds", everything),
        ("origin", everything),
    ]
    write_page(path, report.name, sections)
    return path


def write_look_page(folder: Path, model: ModelMetadata) -> None:
    """Writes the section on the normal images as a page beside the trained model.

    Raises:
        OutputError: It can't be written.
    """
    sections = look_section(read_training(folder).get("look", {}), model)
    write_page(folder / LOOK_HTML, model.name, sections)


def look_section(look: Mapping[str, Any], model: ModelMetadata) -> list[Section]:
    """Returns the section on the normal images.

    Args:
        look: The entry of the training record; empty for models trained without screening.
        model: How images become the model's input, and the threshold.
    """
    if not look:
        return []

    def shown(one: Mapping[str, Any], lines: Sequence[str]) -> Thumbnail:
        path, heatmap = Path(one["path"]), one.get("heatmap")
        return thumbnail(
            path,
            model.input,
            [path.name, *lines],
            heatmap=heatmap,
            windows=model.windows,
            side=LOOK_SIDE,
        )

    def strange(one: Mapping[str, Any]) -> Thumbnail:
        out = ", left out" if one["left_out"] else ""
        lines = [f"score {one['score']:.3g}{out}"]
        if one["threshold"] is not None:
            lines.append(f"threshold {'with' if out else 'without'} it {one['threshold']:.4g}")
        return shown(one, lines)

    def odd(one: Mapping[str, Any]) -> Thumbnail:
        out = ", left out" if one["left_out"] else ""
        return shown(one, [f"{one['cause']}{out}: {one['detail']}"])

    findings = look["findings"]
    values = {
        "pictures": look["pictures"],
        "parts": look["different_parts"],
        "left_out": sum(one["left_out"] for one in findings),
        "threshold": model.calibration and model.calibration.threshold,
        "strangest": [strange(one) for one in look.get("strangest", [])[:LOOK_MOST]],
        "findings": [odd(one) for one in findings[:LOOK_MOST]],
        "found": len(findings),
    }
    return [("look", values)]


def threshold_section(report: Report) -> list[Section]:
    """Returns the section on the threshold; none if no score is finite."""
    points = report.operating_points
    if not points:
        return []
    start = _start(report)
    values = {
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
    }
    return [("threshold", values)]


def chosen(report: Report) -> list[OperatingPoint]:
    """Returns the points of the table in ascending order of their thresholds.

    They are those at round false-reject rates (or miss rates, without good parts), the one in use
    and the cheapest.
    """
    points = report.operating_points
    found = {point.threshold: point for point in points if point.threshold == report.threshold}
    if report.cheapest is not None:
        found[report.cheapest.threshold] = report.cheapest
    for share in RATES:
        if report.good:
            point = _at_false_rejects(report, share)
        else:  # the highest threshold with few enough misses rejects least
            most = share * report.defect
            point = next((point for point in reversed(points) if point.misses <= most), None)
        wrong = {(other.false_rejects, other.misses) for other in found.values()}
        if point is not None and (point.false_rejects, point.misses) not in wrong:
            found[point.threshold] = point
    return [found[threshold] for threshold in sorted(found)]


def _at_false_rejects(report: Report, share: float) -> OperatingPoint | None:
    """Returns the lowest threshold that rejects at most a share of good parts: it misses least."""
    most = share * report.good
    return next((point for point in report.operating_points if point.false_rejects <= most), None)


def _start(report: Report) -> int:
    """Returns the position of the threshold in use, or else of one at 5 % false rejects."""
    thresholds = [point.threshold for point in report.operating_points]
    if report.threshold in thresholds:
        return thresholds.index(report.threshold)
    usual = _at_false_rejects(report, 0.05)
    return 0 if usual is None else report.operating_points.index(usual)


def _row(report: Report, point: OperatingPoint) -> dict[str, object]:
    tests = {
        "in use": point.threshold == report.threshold,
        "cheapest": point == report.cheapest,
    }
    return {
        "point": point,
        "labels": [label for label, holds in tests.items() if holds],
        "false_reject": rate(point.false_rejects, report.good) if report.good else None,
        "miss": rate(point.misses, report.defect) if report.defect else None,
    }


def _curves(report: Report) -> dict[str, str]:
    """Returns the curves of both rates over the points' positions, as SVG paths."""
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
    """Returns the section on a model's detection limits; none if they were not measured."""
    limits, calibration = metadata.detection_limits, metadata.calibration
    if limits is None:
        return []
    changed = outdated(limits, calibration.threshold) if calibration else None
    values = {
        "chart": limits_chart(limits),
        "basis": basis(limits),
        "warnings": tuple(filter(None, (warning(limits), changed))),
        "sentences": tuple(sentences(limits).values()),
        "rows": tuple(_limit_row(limit, limits) for limit in limits.limits),
    }
    return [("limits", values)]


def _limit_row(limit: DetectionLimit, limits: DetectionLimits) -> tuple[str, str, str, str]:
    contrast = "-" if limit.contrast is None else str(limit.contrast)
    if not limit.painted:
        sizes = "could not be painted", "-"
    elif limit.size is None:
        sizes = f"not up to {limits.largest_in_picture}", f"not up to {limits.largest}"
    else:
        sizes = str(limit.picture_size), str(limit.size)
    return (DEFECT_WORDS[limit.kind], contrast, *sizes)


def _galleries(report: Report) -> list[Section]:
    """Returns the sections with every miss and every false reject, the worst first."""
    misses, rejects = missed(report), false_rejects(report)
    side = (PIXELS / max(1, len(misses) + len(rejects))) ** 0.5  # so that all of them fit
    side = int(min(LONGEST_SIDE, max(THUMBNAIL, side)))
    return [
        _gallery(report, "Misses: defects judged good", misses, side, "No defect was judged good."),
        _gallery(report, "False rejects: good parts rejected", rejects, side,
                 "No good part was rejected."),
    ]  # fmt: skip


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
    return "gallery", {"title": title, "pictures": pictures, "note": note, "empty": empty}


def _caption(result: ImageResult) -> tuple[str, str]:
    score = "not finite" if result.score is None else f"{result.score:.3g}"
    remark = f" ({result.code})" if result.code else ""
    return Path(result.path.replace("\\", "/")).name, f"{result.kind}, score {score}{remark}"


def summary_table(report: Report) -> str:
    """Returns the report's summary as a text table."""
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
    if (latency := report.latency_ms) is not None:
        quantiles = ", ".join(f"{name} {latency[name]:.1f} ms" for name in ("p50", "p95", "p99"))
        rows.append(("latency", f"{quantiles} a frame, by {report.scored_by}"))
    if report.machine is not None:
        rows.append(("measured on", _machine(report.machine)))
    if (seeds := report.seeds) is not None:
        spread = f"{seeds.mean:.4f} +- {seeds.standard_deviation:.4f}"
        rows.append(("seeds", f"{len(seeds.seeds)} flows: {spread}"))
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
    assumed = f"for 1,000 parts, if {100 * costs.defect_share:g} % are defective"
    rows = [
        ("expected cost", f"{point.cost:.4g} {assumed}")
        for point in report.operating_points
        if point.threshold == report.threshold
    ]
    text = "the threshold in use"
    if best.threshold != report.threshold:
        wrong = f"{best.false_rejects} false rejects and {best.misses} misses"
        text = f"threshold {best.threshold!r}: {best.cost:.4g} {assumed}, with {wrong}"
    return [*rows, ("cheapest", text)]


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
