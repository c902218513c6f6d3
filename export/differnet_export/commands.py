"""`differnet export` and `differnet verify`."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from differnet_runtime.command import Command

_MODULES = ("torch", "torchvision", "timm", "safetensors", "onnx", "onnxruntime")


def _configure_export(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, help="folder that train or import wrote")
    parser.add_argument("-o", "--output", type=Path, required=True, help="the .onnx file")
    parser.add_argument(
        "--precision", choices=("fp32",), default="fp32", help="precision of the graph"
    )
    parser.add_argument("--json", action="store_true", help="print the metadata as JSON")


def _run_export(args: argparse.Namespace) -> int:
    from .exporter import export_model

    metadata = export_model(args.model, args.output)
    if args.json:
        print(json.dumps(metadata.model_dump(mode="json"), indent=2))
        return 0
    assert metadata.verification is not None
    print(
        f"Exported {args.output} ({args.output.stat().st_size / 1e6:.1f} MB, FP32, "
        f"{len(metadata.views.angles)} views).\n"
        f"Against torch on {metadata.verification.frames} golden and extreme frames: greatest "
        f"relative difference {metadata.verification.greatest_relative_difference:.1e}.\n"
        f"Next: differnet run --model {args.output} --source FOLDER|VIDEO|CAMERA"
    )
    return 0


def _configure_verify(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, help="the exported .onnx file")
    parser.add_argument("--model", type=Path, help="its trained model (default: model/ beside it)")
    parser.add_argument("--images", type=Path, nargs="*", help="real pictures, or folders of them")
    parser.add_argument("--limit", type=float, help="greatest relative difference (default 1e-4)")
    parser.add_argument("--backend", default="auto", help="what runs the file")
    parser.add_argument("--json", action="store_true", help="print every score as JSON")


def _run_verify(args: argparse.Namespace) -> int:
    from .verify import LIMIT, find_folder, recorded_images, verify

    folder = find_folder(args.file, args.model)
    images = _pictures(args.images) if args.images else recorded_images(folder)
    limit = LIMIT if args.limit is None else args.limit
    result = verify(args.file, folder, images, args.backend)
    passed = result.greatest <= limit and not result.flips
    if args.json:
        scores = zip(result.names, result.trained.tolist(), result.exported.tolist(), strict=True)
        record = {
            "passed": passed,
            "limit": limit,
            "greatest_relative_difference": result.greatest,
            "verdict_flips": list(result.flips),
            "frames": [{"name": n, "torch": t, "exported": e} for n, t, e in scores],
        }
        print(json.dumps(record, indent=2))
    else:
        print(
            f"{len(result.names)} frames ({len(images)} real, the others golden and extreme): "
            f"greatest relative difference {result.greatest:.1e} (limit {limit:g}), "
            f"{len(result.flips)} verdict flips."
        )
        for name in result.flips:
            print(f"  flipped: {name}")
        print("Passed." if passed else "FAILED: do not deploy this file.")
    return 0 if passed else 1


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
