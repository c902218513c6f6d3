"""The report: one HTML file that needs nothing else, the same as JSON, and a text table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from differnet_runtime.files import write_bytes
from differnet_runtime.heads import WORDS

from . import charts
from .advice import missed
from .limit_section import limit_section
from .look_report import look_section
from .page import Section, render
from .results import Localization, Report, Result
from .threshold_section import threshold_section
from .thumbnails import THUMBNAIL, thumbnail

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
    rows = _rows(report)
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in rows)


def false_rejects(report: Report) -> list[Result]:
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
    report: Report, title: str, results: Sequence[Result], side: int, empty: str
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


def _caption(result: Result) -> tuple[str, str]:
    score = "not finite" if result.score is None else f"{result.score:.3g}"
    remark = f" ({result.code})" if result.code else ""
    name = Path(result.path.replace("\\", "/")).name
    return name, f"{result.kind}, score {score}{remark}"
