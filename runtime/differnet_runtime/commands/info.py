"""`differnet info`: what a model file, or a trained model's folder, says of itself."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from differnet_runtime.command import Command

if TYPE_CHECKING:
    from differnet_runtime.metadata import ModelMetadata

_TRAINED = "model.json"


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `differnet info`."""
    parser.add_argument(
        "model", type=Path, metavar="MODEL", help="part.onnx, or the folder that training wrote"
    )
    parser.add_argument("--json", action="store_true", help="print everything as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Runs `differnet info`."""
    import json

    file, metadata = _read(arguments.model)
    if arguments.json:
        print(json.dumps({"file": file, "metadata": metadata.model_dump(mode="json")}, indent=2))
        return 0
    rows = {**_contract(metadata), **_origin(metadata), **_file_rows(file)}
    width = max(len(label) for label in rows)
    for label, text in rows.items():
        print(f"{label:<{width}}  {text}")
    return 0


def _read(path: Path) -> tuple[dict[str, Any], ModelMetadata]:
    """Returns path, size and hash of the file, and the metadata in it."""
    from differnet_runtime.errors import ModelFileError
    from differnet_runtime.model_file import content_hash, parse_metadata, read_model_file

    if not path.is_dir():
        data, metadata = read_model_file(path)
        return {"path": str(path), "bytes": len(data), "sha256": content_hash(data)}, metadata
    trained = path / _TRAINED
    try:
        text = trained.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ModelFileError(
            f"{trained} can't be read ({getattr(error, 'strerror', None) or error}). A trained "
            "model is the folder that `differnet train` wrote; an exported one is a .onnx file."
        ) from error
    return {"path": str(path)}, parse_metadata(text, str(trained))


def _contract(metadata: ModelMetadata) -> dict[str, str]:
    from differnet_runtime.calibration import describe

    contract, extractor, flow, views = (
        metadata.input,
        metadata.extractor,
        metadata.flow,
        metadata.views,
    )
    region = contract.region or "the whole frame"
    scales = ", ".join(f"1/{scale}" if scale > 1 else "1" for scale in extractor.scales)
    calibration = metadata.calibration
    return {
        "name": metadata.name,
        "input": f"{contract.size} x {contract.size} pixels, {contract.fit}",
        "region": f"{region} (x,y,width,height)" if contract.region else str(region),
        "white level": f"{contract.white_level} (for 16-bit frames)",
        "views": f"{_degrees(views.angles)}; trained: {_degrees(views.trained)}",
        "extractor": f"{extractor.name}, {extractor.features} features at scales {scales}",
        "flow": f"{flow.blocks} blocks of width {flow.width}, clamp {flow.clamp:g}"
        + (", whitened" if flow.whitened else "")
        + (" in each window" if flow.places else ""),
        "score": "mean of z squared" if metadata.score == "z2" else "negative log-likelihood",
        "heatmap": _heatmap(metadata),
        "precision": metadata.precision,
        "calibration": describe(calibration) if calibration else "none: run `differnet calibrate`",
        "scored by": calibration.scored_by if calibration else "-",
        "good pictures": _appearance(metadata),
    }


def _heatmap(metadata: ModelMetadata) -> str:
    windows = metadata.windows
    if windows is None:
        return "none (the whole picture is averaged; `differnet eval --heatmaps` draws gradients)"
    scale = f", colours from {windows.low:.4g} to {windows.high:.4g}" if windows.high else ""
    return f"scores of {windows.grid} x {windows.grid} windows{scale}"


def _appearance(metadata: ModelMetadata) -> str:
    good = metadata.appearance
    if good is None:
        return "not measured: `differnet calibrate --images` sets the limits of black and blurred"
    return (
        f"mean grey level {good.darkest:.0f} to {good.brightest:.0f} of 255, sharpness at least "
        f"{good.softest:.3g} ({good.images} pictures)"
    )


def _degrees(angles: tuple[float, ...] | str) -> str:
    return angles if isinstance(angles, str) else ", ".join(f"{angle:g}" for angle in angles)


def _origin(metadata: ModelMetadata) -> dict[str, str]:
    origin, verification = metadata.provenance, metadata.verification
    versions = ", ".join(f"{name} {version}" for name, version in origin.versions.items())
    return {
        "trained": f"{origin.created}, recipe {origin.recipe}, {origin.images} images, "
        f"{origin.epochs} epochs, seed {origin.seed}",
        "data": f"sha256 {origin.data_sha256}",
        "versions": versions or "-",
        "weights": f"sha256 {metadata.weights_sha256}" if metadata.weights_sha256 else "-",
        "verification": f"{verification.frames} frames against the trained model, greatest "
        f"relative difference {verification.greatest_relative_difference:.2g}"
        if verification
        else "none",
    }


def _file_rows(file: dict[str, Any]) -> dict[str, str]:
    if "bytes" not in file:
        return {"folder": file["path"]}
    return {
        "file": f"{file['path']}, {file['bytes'] / 1e6:.1f} MB",
        "content": f"sha256 {file['sha256']}",
    }


COMMAND = Command(
    "info",
    "show what a model says of itself",
    configure,
    run,
    extra="opencv-headless",
    modules=("cv2",),
)
