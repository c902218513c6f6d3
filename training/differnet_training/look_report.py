"""What the report says first: good pictures to look at, and what was odd about the set."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from differnet_runtime.files import write_bytes
from differnet_runtime.metadata import ModelMetadata

from .model_directory import read_training
from .thumbnails import thumbnail

LOOK_HTML = "look.html"
_MOST = 24


def look_section(look: Mapping[str, Any], model: ModelMetadata) -> dict[str, Any] | None:
    """Returns what the template `look.html.j2` shows.

    Args:
        look: From the training record; empty for models that were trained without it.
        model: Says what is seen of a picture, and the threshold.

    Returns:
        None if there is nothing to show.
    """
    if not look:
        return None
    strangest, findings = look.get("strangest", [])[:_MOST], look["findings"]
    return {
        "pictures": look["pictures"],
        "parts": look["different_parts"],
        "left_out": sum(one["left_out"] for one in findings),
        "threshold": model.calibration and model.calibration.threshold,
        "strangest": [
            {**one, **_named(one), "image": _seen(one, model, one.get("heatmap"))}
            for one in strangest
        ],
        "findings": [
            {**one, **_named(one), "image": _seen(one, model) if k < _MOST else None}
            for k, one in enumerate(findings)
        ],
    }


def write_look_page(folder: Path, model: ModelMetadata) -> Path:
    """Writes the section as a page of its own, beside the model that was trained.

    Raises:
        OutputError: It can't be written.
    """
    from jinja2 import Environment, PackageLoader

    environment = Environment(
        loader=PackageLoader("differnet_training"), autoescape=True, trim_blocks=True
    )
    look = look_section(read_training(folder).get("look", {}), model)
    html = environment.get_template("look_page.html.j2").render(name=model.name, look=look)
    path = folder / LOOK_HTML
    write_bytes(path, html.encode(errors="replace"))
    return path


def _named(one: Mapping[str, Any]) -> dict[str, str]:
    return {"name": Path(one["path"]).name}


def _seen(one: Mapping[str, Any], model: ModelMetadata, heatmap: Any = None) -> str | None:  # noqa: ANN401
    return thumbnail(Path(one["path"]), model, heatmap)
