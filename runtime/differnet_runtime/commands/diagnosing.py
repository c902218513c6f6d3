"""The steps of `differnet doctor`: try a model, and write down what was found."""

from __future__ import annotations

import logging
import shutil
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..backends import selection
from ..backends.selection import AUTO, choose, why_not_better
from ..confinement import UnitReport
from ..diagnosis import DiagnosisLine
from ..errors import BackendError
from ..model_file.file import read_model_file
from ..text import Meaning, coloured

_SIGNS = {"ok": "ok", "missing": "missing", "none": "-"}
_MEANINGS: dict[str, Meaning] = {
    "ok": "good",
    "works": "good",
    "missing": "look",
    "warning": "look",
    "hidden": "bad",
    "failed": "bad",
}


@dataclass
class ModelTrial:
    """What became of a model on this machine.

    Args:
        path: The model file.
        precision: `fp32`, `fp16` or `int8`.
        backend: What `auto` takes; None where nothing runs it.
        reasons: Why not a better one, by name.
        warnings: What deserves a look though it works.
        difference: Greatest relative difference of the golden frames' scores; None if not scored.
        failure: Why the model does not run, or not right; None if it does.
    """

    path: Path
    precision: str
    backend: str | None = None
    reasons: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    difference: float | None = None
    failure: str | None = None


def try_model(path: Path) -> ModelTrial:
    """Opens a model with the backend that `auto` takes, and scores its golden frames.

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
    """Keeps what the choice warns of, which would otherwise go to standard error."""
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
    """Returns all of it for JSON; the keys stay the same from version to version."""
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
    """Returns all of it for people, as wide as the terminal."""
    no_gpu = {
        finding.text: "there is no GPU (above)" for finding in findings if finding.name == "gpu"
    }
    lines = ["machine"]
    lines += [_row(_SIGNS[finding.state], finding.name, finding.text) for finding in findings]
    lines += ["", "backends"]
    lines += [
        _row("works" if reason is None else "no", name, no_gpu.get(reason or "", reason or ""))
        for name, reason in backends.items()
    ]
    if trial is not None:
        lines += ["", f"model {trial.path}", *_trial_rows(trial)]
    if unit is not None:
        lines += ["", f"unit {unit.unit}", *_unit_rows(unit)]
    return "\n".join(lines)


def _trial_rows(trial: ModelTrial) -> Iterator[str]:
    if trial.backend is not None:
        yield _row("takes", trial.backend, f"chosen by auto, for this {trial.precision} file")
    for names, reason in why_not_better(trial.reasons).items():
        yield _row("not", names, reason)
    for warning in trial.warnings:
        yield _row("warning", "", warning)
    if trial.failure is not None:
        yield _row("failed", "self test", trial.failure)
    else:
        yield _row(
            "ok", "self test", f"golden frames score as exported, within {trial.difference:.2g}"
        )


def _unit_rows(unit: UnitReport) -> Iterator[str]:
    if unit.not_run is not None:
        yield _row("not run", "", unit.not_run)
        return
    for node, reason in unit.hidden.items():
        yield _row("hidden", node, reason)
    if unit.gpu is None:
        yield _row("ok", "gpu", "CUDA starts under the unit")
    elif unit.outside is None:
        yield _row("failed", "gpu", f"{unit.gpu} Outside the unit CUDA starts.")
    else:
        yield _row("-", "gpu", f"none outside the unit either: {unit.outside}")


def _row(sign: str, name: str, text: str) -> str:
    indent = f"  {sign:<8} {name:<21} "
    width = max(60, shutil.get_terminal_size().columns)
    filled = textwrap.fill(
        text or " ",
        width,
        initial_indent=indent,
        subsequent_indent=" " * len(indent),
        break_long_words=False,
        break_on_hyphens=False,
        drop_whitespace=True,
    )
    row = filled.rstrip() if text else indent.rstrip()
    return f"  {coloured(sign, _MEANINGS.get(sign), sys.stdout)}{row[2 + len(sign) :]}"
