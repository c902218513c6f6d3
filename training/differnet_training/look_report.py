"""What the report says first: good pictures to look at, and what was odd about the set."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from differnet_runtime.files import write_bytes
from differnet_runtime.metadata import ModelMetadata

from .model_directory import read_training
from .page import Section, render
from .thumbnails import Thumbnail, thumbnail

LOOK_HTML = "look.html"
_MOST = 24
_SIDE = 640
"""Longest side of a picture in the section, in pixels."""


def look_section(look: Mapping[str, Any], model: ModelMetadata) -> list[Section]:
    """Returns the section on the good pictures; none for a model that was trained without a look.

    Args:
        look: From the training record; empty for models that were trained without it.
        model: Says what is seen of a picture, and the threshold.
    """
    if not look:
        return []
    findings = look["findings"]
    values = {
        "pictures": look["pictures"],
        "parts": look["different_parts"],
        "left_out": sum(one["left_out"] for one in findings),
        "threshold": model.calibration and model.calibration.threshold,
        "strangest": [_strange(one, model) for one in look.get("strangest", [])[:_MOST]],
        "findings": [_finding(one, model) for one in findings[:_MOST]],
        "found": len(findings),
    }
    return [Section("look", values)]


def write_look_page(folder: Path, model: ModelMetadata) -> Path:
    """Writes the section as a page of its own, beside the model that was trained.

    Raises:
        OutputError: It can't be written.
    """
    sections = look_section(read_training(folder).get("look", {}), model)
    path = folder / LOOK_HTML
    write_bytes(path, render(model.name, sections).encode(errors="replace"))
    return path


def _strange(one: Mapping[str, Any], model: ModelMetadata) -> Thumbnail:
    out = ", left out" if one["left_out"] else ""
    lines = [f"score {one['score']:.3g}{out}"]
    if one["threshold"] is not None:
        lines.append(f"threshold {'with' if out else 'without'} it {one['threshold']:.4g}")
    return _seen(one, model, lines)


def _finding(one: Mapping[str, Any], model: ModelMetadata) -> Thumbnail:
    out = ", left out" if one["left_out"] else ""
    return _seen(one, model, [f"{one['cause']}{out}: {one['detail']}"])


def _seen(one: Mapping[str, Any], model: ModelMetadata, lines: list[str]) -> Thumbnail:
    path = Path(one["path"])
    heat = one.get("heatmap")
    return thumbnail(
        path,
        model.input,
        [path.name, *lines],
        heatmap=heat,
        windows=model.windows,
        side=_SIDE,
    )
