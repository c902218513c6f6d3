"""`differnet export` and `differnet verify`."""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from differnet_runtime.command import Command, print_json, print_result
from differnet_runtime.commands.arguments import (
    Number,
    add_device,
    add_json,
    any_path,
    existing,
    new_file,
    new_folder,
)
from differnet_runtime.errors import ExportError
from differnet_runtime.text import coloured

if TYPE_CHECKING:
    from differnet_runtime.model_file.metadata import Calibration, Int8, ModelMetadata, Verification

    from .verify import VerifyResult


_MODULES = ("torch", "torchvision", "timm", "safetensors", "onnx", "onnxruntime")


def _configure_export(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=any_path, help="folder that train or import wrote")
    parser.add_argument("-o", "--output", type=new_file, required=True, help="the .onnx file")
    parser.add_argument(
        "--precision",
        choices=("fp16", "fp32", "int8"),
        default="fp16",
        help="fp16 (default) for GPUs; CPUs run fp32 faster; int8 for GPUs, measured on the good "
        "pictures that trained the model (docs/precision.md)",
    )
    parser.add_argument(
        "--pixel",
        choices=("bgr", "bgrx"),
        default="bgr",
        help="what the graph reads; bgrx is what Jetson's nvvidconv gives",
    )
    parser.add_argument(
        "--triton", type=new_folder, metavar="DIR", help="write a Triton repository too"
    )
    parser.add_argument(
        "--triton-jpeg",
        action="store_true",
        help="with --triton: also write an ensemble that takes picture files",
    )
    add_json(parser, "the metadata")


def _run_export(args: argparse.Namespace) -> int:
    from .exporter import export_model

    if args.triton_jpeg and not args.triton:
        raise ExportError("--triton-jpeg needs a repository: name its folder with --triton DIR")
    metadata = export_model(args.model, args.output, precision=args.precision, pixel=args.pixel)
    if args.triton:
        from .triton import write_repository

        repository = write_repository(args.output, args.triton, jpeg=args.triton_jpeg)
    if args.json:
        print_json(metadata)
        return 0
    print(_summary(args.output, metadata))
    if args.triton:
        print(f"Triton repository: {repository}")
    print(f"Next: differnet run --model {args.output} --source FOLDER|VIDEO|CAMERA")
    return 0


def _summary(output: Path, metadata: ModelMetadata) -> str:
    verification, calibration = metadata.verification, metadata.calibration
    assert verification is not None
    lines = [
        f"Exported {output} ({output.stat().st_size / 1e6:.1f} MB, {metadata.precision.upper()}, "
        f"{len(metadata.views.angles)} views, {metadata.input.pixel}).",
        f"The FP32 graph against torch: greatest relative difference "
        f"{verification.greatest_relative_difference:.1e} on {verification.frames} frames.",
    ]
    if half := verification.half:
        lines.append(
            f"FP16 (emulated) against FP32: relative error of the score, median "
            f"{half.median_relative_error:.1e}, greatest {half.greatest_relative_error:.1e}; "
            f"{half.subnormal_share:.2%} of the weights are below FP16's normal range."
        )
    if int8 := verification.int8:
        lines.append(_int8(int8))
    if calibration is not None:
        lines.append(_threshold(calibration, verification))
    return "\n".join(lines)


def _int8(found: Int8) -> str:
    flips = "" if found.flips is None else f", {found.flips} verdict flips"
    return (
        f"INT8 (emulated) against FP32, on {found.pictures} good pictures: relative error of the "
        f"score, apart from a common shift of {found.shift - 1.0:+.1%}, median "
        f"{found.median_relative_error:.1e}, greatest {found.greatest_relative_error:.1e}{flips}. "
        f"{found.convolutions} convolutions ({found.share:.0%} of the extractor's multiplications) "
        f"are in INT8; the first {found.left_in_float} and the depthwise ones stayed in FP16. No "
        "defects were seen: judge the file with `differnet eval --onnx`."
    )


def _threshold(calibration: Calibration, verification: Verification) -> str:
    if calibration.method == "out_of_fold":
        return (
            f"Threshold {calibration.threshold:.4g}, estimated from {calibration.images} "
            f"out-of-fold scores, with this graph's error on {verification.frames} frames as "
            "headroom."
        )
    if calibration.scored_by == "torch":
        how = "moved by the common shift" if verification.int8 else "as trained"
        return (
            f"Threshold {calibration.threshold:.4g}, {how}: the calibration pictures are not where "
            "they were, or several show the same part, so it could not be set again from this "
            "graph's scores. Run `differnet calibrate` on the device."
        )
    return (
        f"Threshold {calibration.threshold:.4g}, set again from this graph's scores of "
        f"{calibration.images} good pictures ({calibration.scored_by})."
    )


def _configure_verify(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=any_path, help="the exported .onnx file")
    parser.add_argument(
        "--model", type=any_path, help="its trained model (default: model/ beside it)"
    )
    parser.add_argument(
        "--images", type=existing, nargs="*", help="real pictures, or folders of them"
    )
    parser.add_argument(
        "--limit",
        type=Number(0.0, 1.0),
        help="greatest relative difference (default 1e-4, FP16 2e-2, INT8 0.25)",
    )
    add_device(parser, auto="the best backend that works here, but FP16 and INT8 are emulated")
    add_json(parser, "every score")


def _run_verify(args: argparse.Namespace) -> int:
    from .verify import find_folder, recorded_images, verify

    folder = find_folder(args.file, args.model)
    images = _pictures(args.images) if args.images else recorded_images(folder)
    result = verify(args.file, folder, images, args.backend, args.limit)
    print_result(_record(result), _findings(result, len(images)), as_json=args.json)
    return 0 if result.passed else 1


def _record(result: VerifyResult) -> dict[str, object]:
    found = result.comparison
    scores = zip(found.names, found.trained.tolist(), found.exported.tolist(), strict=True)
    return {
        "passed": result.passed,
        "scored_by": result.scored_by,
        "limit": found.limit,
        "median_relative_difference": found.median,
        "greatest_relative_difference": found.greatest,
        "verdict_flips": list(found.flips),
        "verdict_flips_beyond_the_limit": list(found.wrong_flips),
        "frames": [{"name": n, "torch": t, "exported": e} for n, t, e in scores],
        "gross_inputs": [
            {
                "name": entry.name,
                "score": entry.score if math.isfinite(entry.score) else None,
                "verdict": entry.verdict.value,
                "passed": entry.passed,
            }
            for entry in result.gross
        ],
    }


def _findings(result: VerifyResult, images: int) -> str:
    found = result.comparison
    real = "all real" if len(found.names) == images else f"{images} real, the others golden"
    lines = [
        f"{len(found.names)} frames ({real}), file run by "
        f"{result.scored_by}: relative difference median {found.median:.1e}, greatest "
        f"{found.greatest:.1e} (limit {found.limit:g}), {len(found.flips)} verdict flips."
    ]
    lines += [
        f"  flipped{'' if name in found.wrong_flips else ' (within the limit of the threshold)'}: "
        f"{name}"
        for name in found.flips
    ]
    wrong = [entry for entry in result.gross if not entry.passed]
    lines.append(
        f"{len(result.gross)} gross inputs (covered, blown out, noise, stripes, features x0 to "
        f"x50): {len(result.gross) - len(wrong)} finite and not called good."
    )
    lines += [f"  {entry.name}: score {entry.score:.4g}, {entry.verdict.value}" for entry in wrong]
    passed = coloured("Passed.", "good", sys.stdout)
    failed = coloured("FAILED: do not deploy this file.", "bad", sys.stdout)
    return "\n".join([*lines, passed if result.passed else failed])


def _pictures(named: list[Path]) -> list[Path]:
    from differnet_runtime.images import list_images

    return [path for name in named for path in (list_images(name) if name.is_dir() else [name])]


EXPORT = Command(
    name="export",
    summary="write a trained model as one ONNX file",
    configure=_configure_export,
    run=_run_export,
    extra="train,export,onnx-cpu",
    modules=_MODULES,
)

VERIFY = Command(
    name="verify",
    summary="compare an exported file with the model it came from",
    configure=_configure_verify,
    run=_run_verify,
    extra="train,export,onnx-cpu",
    modules=_MODULES,
)
