"""The report: one HTML file that needs nothing else, the same as JSON, and a text table."""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, PackageLoader

from differnet_runtime.files import write_bytes
from differnet_runtime.heads import WORDS

from . import charts
from .look_report import look_section
from .results import Localization, Report, Result
from .thumbnails import thumbnail

MOST_PICTURES = 12


def write_report(report: Report, folder: Path) -> Path:
    """Writes `report.json` and `report.html`.

    Returns:
        The path of the HTML file.

    Raises:
        OutputError: They can't be written.
    """
    write_bytes(folder / "report.json", report.model_dump_json(indent=1).encode())
    environment = Environment(
        loader=PackageLoader("differnet_training"), autoescape=True, trim_blocks=True
    )
    html = environment.get_template("report.html.j2").render(
        report=report,
        look=look_section(report.look, report.model),
        head_words=WORDS,
        rows=_rows(report),
        origin=_origin(report),
        charts={
            "Scores": charts.histogram(report),
            "ROC": charts.roc_curves(report),
            "Does the flow earn its place?": charts.comparison(report),
            "Training": charts.training_curves(report),
        },
        misses=_pictures(report, worst_misses(report)),
        false_rejects=_pictures(report, worst_false_rejects(report)),
    )
    path = folder / "report.html"
    write_bytes(path, html.encode())
    return path


def summary_table(report: Report) -> str:
    """Returns the report's head as a text table."""
    rows = _rows(report)
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in rows)


def worst_misses(report: Report) -> list[Result]:
    """Returns defective parts that were judged good, the lowest score first."""
    missed = [r for r in report.results if r.label == "defect" and r.verdict == "GOOD"]
    return sorted(missed, key=lambda r: r.score or 0.0)


def worst_false_rejects(report: Report) -> list[Result]:
    """Returns good parts that were rejected, the highest score first."""
    rejected = [r for r in report.results if r.label == "good" and r.verdict != "GOOD"]
    return sorted(rejected, key=lambda r: -(r.score if r.score is not None else float("inf")))


def _rows(report: Report) -> list[tuple[str, str]]:
    auroc = report.image_auroc
    rows = [
        ("pictures", f"{report.good} good, {report.defect} defective, unseen in training"),
        ("image AUROC", f"{auroc.value:.3f}  (95 % interval {auroc.low:.3f} to {auroc.high:.3f})"),
        ("image AUPR", f"{report.image_aupr:.3f}"),
    ]
    if report.false_reject is not None and report.miss is not None:
        for name, figure in (("false rejects", report.false_reject), ("misses", report.miss)):
            rows.append(
                (
                    name,
                    f"{figure.count} of {figure.of} = {figure.value:.1%}  "
                    f"({figure.low:.1%} to {figure.high:.1%})",
                )
            )
    else:
        rows.append(("threshold", "none: run `differnet calibrate`"))
    if report.no_decision:
        rows.append(("no decision", f"{report.no_decision}, counted as rejected"))
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


def _localization(found: Localization) -> list[tuple[str, str]]:
    rows = [("heatmaps", f"{found.drawn} defective pictures in {found.folder}")]
    if found.pixel_auroc is not None and found.aupro is not None:
        shown = f"{found.pixel_auroc:.3f}, AUPRO {found.aupro:.3f}"
        rows.append(("pixel AUROC", f"{shown}  ({found.with_masks} pictures with masks)"))
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


def _pictures(report: Report, results: list[Result]) -> dict[str, object]:
    return {
        "total": len(results),
        "shown": [(result, _thumbnail(report, result)) for result in results[:MOST_PICTURES]],
    }


def _thumbnail(report: Report, result: Result) -> str | None:
    return thumbnail(Path(result.path), report.model, result.heatmap)
