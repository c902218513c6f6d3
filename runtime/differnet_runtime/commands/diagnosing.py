"""The work of `differnet doctor`: examine the machine, try a model and a unit, report."""

from __future__ import annotations

import logging
import shutil
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..backends import selection
from ..backends.selection import AUTO, choose, why_not_better
from ..command import print_result
from ..confinement import UnitReport, try_unit
from ..diagnosis import DiagnosisLine, examine, try_backends
from ..errors import BackendError
from ..model_file.file import read_model_file
from ..text import Meaning, coloured, table

UNFIT = 1
"""Exit code when no backend works, or the model or the unit does not."""
_SIGNS = {"ok": "ok", "missing": "missing", "none": "-"}
_MEANINGS: dict[str, Meaning] = {
    "ok": "good",
    "works": "good",
    "missing": "look",
    "warning": "look",
    "hidden": "bad",
    "failed": "bad",
}

DoctorRow = tuple[str, str, str]
"""Sign, name and text."""


def diagnose(model: Path | None, unit_name: str | None, *, as_json: bool) -> int:
    """Examines the machine, prints the findings and returns the exit code.

    Args:
        model: A model file to try on this machine.
        unit_name: A systemd unit under whose confinement the GPU is tried.
        as_json: Print JSON in place of text.

    Raises:
        ModelFileError: The model file can't be used.
    """
    if model is not None:
        read_model_file(model)  # a wrong file is refused before the machine is examined
    findings = examine(model.parent if model else Path.cwd())
    backends = try_backends()
    trial = try_model(model) if model else None
    unit = try_unit(unit_name) if unit_name else None
    report = (findings, backends, trial, unit)
    print_result(as_record(*report), as_text(*report), as_json=as_json)
    works = None in backends.values() and (trial is None or trial.failure is None)
    return 0 if works and (unit is None or unit.sound) else UNFIT


@dataclass
class ModelTrial:
    """The result of running a model on this machine.

    Args:
        path: The model file that was tried.
        precision: `fp32`, `fp16` or `int8`.
        backend: The backend that `auto` chooses; None if none runs the model.
        reasons: Why better backends were not chosen, by their names.
        warnings: Problems that did not keep the model from running.
        difference: Greatest relative difference of the golden frames' scores; None if not scored.
        failure: Why the model does not run, or gives wrong scores; None if it works.

    Example:
        >>> ModelTrial(Path("part.onnx"), "fp32").failure is None
        True
    """

    path: Path
    precision: str
    backend: str | None = None
    reasons: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    difference: float | None = None
    failure: str | None = None


def try_model(path: Path) -> ModelTrial:
    """Opens a model with the backend that `auto` chooses, and scores its golden frames.

    Raises:
        ModelFileError: The file can't be used.
    """
    data, metadata = read_model_file(path)
    trial = ModelTrial(path, metadata.precision)
    try:
        from ..detector import Detector
    except Exception as error:  # OpenCV's: missing, or built for another numpy
        trial.failure = f"the model needs OpenCV, which can't be imported ({error})"
        return trial
    try:
        with _kept_warnings(trial.warnings):
            choice = choose(AUTO, data, path=path)
        trial.backend, trial.reasons = choice.backend.name, choice.reasons
        with Detector.over(choice.backend, metadata) as detector:
            trial.difference = detector.self_test()
    except BackendError as error:
        trial.failure = str(error)
    return trial


@contextmanager
def _kept_warnings(kept: list[str]) -> Iterator[None]:
    """Collects the warnings of the backend selection instead of logging them."""
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: kept.append(record.getMessage())  # type: ignore[method-assign]
    selection.log.addHandler(handler)
    try:
        yield
    finally:
        selection.log.removeHandler(handler)


def as_record(
    findings: list[DiagnosisLine],
    backends: dict[str, str | None],
    trial: ModelTrial | None,
    unit: UnitReport | None = None,
) -> dict[str, Any]:
    """Returns the report for JSON; its keys stay the same from version to version."""
    return {
        "checks": {
            finding.name: {"state": finding.state, "text": finding.text} for finding in findings
        },
        "backends": {
            name: {"works": reason is None, "reason": reason} for name, reason in backends.items()
        },
        "model": None
        if trial is None
        else {
            "path": str(trial.path),
            "precision": trial.precision,
            "backend": trial.backend,
            "reasons": trial.reasons,
            "warnings": trial.warnings,
            "self_test": {
                "passed": trial.failure is None,
                "greatest_relative_difference": trial.difference,
                "failure": trial.failure,
            },
        },
        "unit": None if unit is None else {**asdict(unit), "sound": unit.sound},
    }


def as_text(
    findings: list[DiagnosisLine],
    backends: dict[str, str | None],
    trial: ModelTrial | None,
    unit: UnitReport | None = None,
) -> str:
    """Returns the report as text, wrapped to the width of the terminal."""
    gpu = {finding.text for finding in findings if finding.name == "gpu"}
    sections: dict[str, Iterable[DoctorRow]] = {
        "machine": [(_SIGNS[finding.state], finding.name, finding.text) for finding in findings],
        "backends": [
            ("works", name, "")
            if reason is None
            else ("no", name, "there is no GPU (above)" if reason in gpu else reason)
            for name, reason in backends.items()
        ],
    }
    if trial is not None:
        sections[f"model {trial.path}"] = _trial_rows(trial)
    if unit is not None:
        sections[f"unit {unit.unit}"] = _unit_rows(unit)
    return "\n\n".join(f"{title}\n{_lines(rows)}" for title, rows in sections.items())


def _lines(rows: Iterable[DoctorRow]) -> str:
    return table(
        [("", coloured(sign, _MEANINGS.get(sign), sys.stdout), *rest) for sign, *rest in rows],
        least=(0, 7, 20),
        wrap=max(60, shutil.get_terminal_size().columns),
    )


def _trial_rows(trial: ModelTrial) -> Iterator[DoctorRow]:
    if trial.backend is not None:
        yield "takes", trial.backend, f"chosen by auto, for this {trial.precision} file"
    for names, reason in why_not_better(trial.reasons).items():
        yield "not", names, reason
    for warning in trial.warnings:
        yield "warning", "", warning
    if trial.failure is not None:
        yield "failed", "self test", trial.failure
    else:
        yield "ok", "self test", f"golden frames score as exported, within {trial.difference:.2g}"


def _unit_rows(unit: UnitReport) -> Iterator[DoctorRow]:
    if unit.not_run is not None:
        yield "not run", "", unit.not_run
        return
    for node, reason in unit.hidden.items():
        yield "hidden", node, reason
    if unit.gpu is None:
        yield "ok", "gpu", "CUDA starts under the unit"
    elif unit.outside is None:
        yield "failed", "gpu", f"{unit.gpu} Outside the unit CUDA starts."
    else:
        yield "-", "gpu", f"none outside the unit either: {unit.outside}"
