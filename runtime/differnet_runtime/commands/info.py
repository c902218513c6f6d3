"""`differnet info`: what a model file, or the folder of a trained model, says about itself.

Imported on every start of `differnet`, so what reads models is imported when the command runs.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..command import Command, print_result
from ..text import table
from .arguments import add_json, any_path

if TYPE_CHECKING:
    from ..model_file.contract import InputContract, PictureSizes
    from ..model_file.metadata import Appearance, FlowSpec, Head, ModelMetadata, ScoreKind


_TRAINED = "model.json"


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `differnet info`."""
    parser.add_argument(
        "model", type=any_path, metavar="MODEL", help="part.onnx, or the folder that training wrote"
    )
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Runs `differnet info`."""
    file, metadata = _read(arguments.model)
    about = _contract(metadata) | _detection_limits(metadata) | _origin(metadata)
    text = table((about | _file_rows(file)).items())
    print_result({"file": file, "metadata": metadata}, text, as_json=arguments.json)
    return 0


def _read(path: Path) -> tuple[dict[str, Any], ModelMetadata]:
    """Returns the facts about a file (path, size, hashes, signature) and the metadata in it."""
    from ..backends.tensorrt.identity import graph_sha256
    from ..errors import ModelFileError
    from ..model_file.file import content_hash, parse_metadata, read_model_file
    from ..model_file.signing import describe_signature

    if not path.is_dir():
        data, metadata = read_model_file(path)
        return {
            "path": str(path),
            "bytes": len(data),
            "sha256": content_hash(data),
            "graph_sha256": graph_sha256(data),
            "signature": describe_signature(data, str(path)),
        }, metadata
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
    from ..inspection.calibration import describe

    contract, views, calibration = metadata.input, metadata.views, metadata.calibration
    region = contract.region
    return {
        "name": metadata.name,
        "input": _input(contract),
        "region": f"{region} (x,y,width,height)" if region else "the whole frame",
        "white level": f"{contract.white_level} (for 16-bit frames)",
        "views": f"{_degrees(views.angles)}; trained: {_degrees(views.trained)}",
        **_judges(metadata),
        "score": _score(metadata),
        "heatmap": _heatmap(metadata),
        "precision": _precision(metadata),
        "calibration": describe(calibration) if calibration else "none: run `differnet calibrate`",
        "scored by": calibration.scored_by if calibration else "-",
        "good pictures": _appearance(metadata.appearance),
        "picture sizes": _sizes(metadata.picture_sizes),
    }


def _input(contract: InputContract) -> str:
    tiles = contract.tiles
    return f"{contract.width} x {contract.height} pixels (width x height), {contract.fit}" + (
        f", in {tiles} tiles that overlap by {tiles.overlap} pixels" if tiles else ""
    )


def _judges(metadata: ModelMetadata) -> dict[str, str]:
    """Returns rows for the extractor and the flow, or for each head."""
    from ..records import in_words

    extractor, flow = metadata.extractor, metadata.flow
    if flow is None:
        heads = {
            f"head {one.name}": f"{in_words(one.name)}: {_head(one)}" for one in metadata.heads
        }
        return {"extractor": extractor.name, **heads}
    scales = ", ".join(f"1/{scale}" if scale > 1 else "1" for scale in extractor.scales)
    return {
        "extractor": f"{extractor.name}, {extractor.features} features at scales {scales}",
        "flow": _flow(flow),
    }


def _head(head: Head) -> str:
    where = "one window" if head.whole else f"{head.rows} x {head.columns} windows"
    trained = f", trained for {head.epochs} epochs" if head.flow.blocks else ""
    blocks = f"blocks {', '.join(map(str, head.taps))}"
    return (
        f"{where}, {head.flow.features} features of {blocks}; {_flow(head.flow)}{trained}; "
        f"a typical good part's own score is {head.typical:.4g}"
    )


def _flow(flow: FlowSpec) -> str:
    convolved = f", subnets of {flow.kernel} x {flow.kernel} convolutions" * (flow.kernel > 1)
    blocks = f"{flow.blocks} blocks of width {flow.width}, clamp {flow.clamp:g}{convolved}"
    return (
        (blocks if flow.blocks else "a Gaussian, no blocks")
        + (", whitened" if flow.whitened else "")
        + (" in each window" if flow.places else "")
    )


_SCORES: dict[ScoreKind, str] = {
    "z2": "mean of z squared",
    "likelihood": "negative log-likelihood",
}


def _score(metadata: ModelMetadata) -> str:
    kind = _SCORES[metadata.score]
    scale = "on one scale where a typical good part has about 1"
    return f"joined from the heads' scores, {scale} ({kind})" if metadata.heads else kind


def _heatmap(metadata: ModelMetadata) -> str:
    windows = metadata.windows
    if windows is None:
        return "none (the whole picture is averaged; `differnet eval --heatmaps` draws gradients)"
    known = windows.low is not None and windows.high is not None
    scale = f", colours from {windows.low:.4g} to {windows.high:.4g}" if known else ""
    unit = ", each relative to what good parts have there" if metadata.heads else ""
    places = "subwindows" if any(head.detail > 1 for head in metadata.heads) else "windows"
    return f"scores of {windows.rows} x {windows.columns} {places} (rows x columns){unit}{scale}"


def _appearance(good: Appearance | None) -> str:
    return (
        "not measured: `differnet calibrate --images` sets the limits of black and blurred"
        if good is None
        else f"mean grey level {good.darkest:.0f} to {good.brightest:.0f} of 255, sharpness at "
        f"least {good.softest:.3g} ({good.images} pictures)"
    )


def _sizes(known: PictureSizes | None) -> str:
    return (
        "not known: all frames of a camera must have the size of its first one"
        if known is None
        else f"{known} pixels (width x height); frames of other sizes get no verdict"
    )


def _detection_limits(metadata: ModelMetadata) -> dict[str, str]:
    """Returns rows for the share of painted defects that the model finds, with warnings."""
    from ..model_file.detection_limits import DEFECT_WORDS, basis, outdated, sentences, warning

    limits, calibration = metadata.detection_limits, metadata.calibration
    if limits is None:
        return {"finds": "not measured: no defects were painted (`differnet train` does it)"}
    notes = {
        "DO NOT USE": warning(limits),
        "outdated": outdated(limits, calibration.threshold) if calibration else None,
    }
    return {
        "finds": basis(limits),
        **{f"  {DEFECT_WORDS[kind]}": text for kind, text in sentences(limits).items()},
        **{label: text for label, text in notes.items() if text},
    }


def _degrees(angles: tuple[float, ...] | str) -> str:
    return angles if isinstance(angles, str) else ", ".join(f"{angle:g}" for angle in angles)


def _precision(metadata: ModelMetadata) -> str:
    int8 = metadata.verification.int8 if metadata.verification else None
    if int8 is None:
        return metadata.precision
    flips = "" if int8.flips is None else f", {int8.flips} verdict flips"
    return (
        f"{metadata.precision}: {int8.convolutions} convolutions, {int8.share:.0%} of the "
        f"extractor's multiplications; scores of {int8.pictures} good pictures against FP32: "
        f"shifted by {int8.shift - 1.0:+.1%}, error {int8.median_relative_error:.1e} (median), "
        f"{int8.greatest_relative_error:.1e} (greatest){flips}"
    )


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
    return (
        {
            "file": f"{file['path']}, {file['bytes'] / 1e6:.1f} MB",
            "content": f"sha256 {file['sha256']}",
            "signature": file["signature"],
        }
        if "bytes" in file
        else {"folder": file["path"]}
    )


COMMAND = Command(
    "info",
    "show what a model says of itself",
    configure,
    run,
    extra="opencv-headless",
    modules=("cv2",),
)
