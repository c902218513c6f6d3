"""What `differnet export --precision int8` does to the scores, and what a compiler makes of it.

    python -m benchmarks.int8 --data FOLDER... [--sets SET...]      (minutes for each set)
    python -m benchmarks.int8 --models FOLDER --engines  (seconds; needs TensorRT-RTX, no GPU)

`edge` learns from each set of the suite with seed 0, and is exported in three precisions. FP16 and
INT8 are emulated. Judged is the half to report; ways to quantise were chosen on the other. With
`--models`, trained models are kept, and `--engines` builds those that are there.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx

from differnet_export import frames
from differnet_export.exporter import export_model
from differnet_export.graph import on_cpu, scores
from differnet_runtime.backends.tensorrt.audit import Layer, audit, dry_build, listed_weight_bytes
from differnet_runtime.errors import ExportError
from differnet_runtime.model_file.file import read_model_file
from differnet_runtime.model_file.metadata import ModelMetadata
from differnet_training.datasets import DataSet, ImageFile, Label
from differnet_training.features import default_cache_folder
from differnet_training.job import TrainingSettings
from differnet_training.learning import learn
from differnet_training.recipes import EDGE

from . import machine
from .devices import DEVICES
from .suite.figures import figures
from .suite.halves import REPORT
from .suite.judged import Judged, record_of
from .suite.sets import PictureSet, find_sets
from .suite.sizes import contract_for, input_size

PRECISIONS = ("fp32", "fp16", "int8")
TARGETS = ("SM86", "SM89")
_BYTES = {"Float": 4, "Half": 2, "Int8": 1, "UInt8": 1, "Int32": 4, "Int64": 8, "Bool": 1}


def trained(one: PictureSet, data: DataSet, folder: Path) -> Path:
    """Returns the set's model in a folder, and trains it first where there is none."""
    model = folder / one.name
    if not (model / "model.json").is_file():
        contract = contract_for(input_size(data.good, one.region), one.region)
        learn(TrainingSettings(data, EDGE, contract, model, default_cache_folder(), 0))
    return model


def judged(one: PictureSet, folder: Path) -> dict[str, Any]:
    """Exports a set's model in each precision and judges the half to report."""
    data, halves = one.opened(0), one.halves()
    model = trained(one, data, folder)
    test = tuple(p for p in data.test if halves[p.kind, p.path.name] == REPORT)
    data = DataSet(data.name, data.good, test)
    found: dict[str, Any] = {}
    calls: dict[str, list[bool]] = {}
    for precision in PRECISIONS:
        file = folder / f"{one.name}.{precision}.onnx"
        try:
            metadata = export_model(model, file, precision=precision)
        except ExportError as error:
            found[precision] = {"refused": str(error)}
            continue
        values = _scores(file, test, metadata)
        assert metadata.calibration is not None
        threshold = metadata.calibration.threshold
        calls[precision] = [value > threshold for value in values]
        about = {"calibrated": metadata.calibration.method}
        calibration = metadata.calibration.good_scores
        record = record_of(
            one, precision, 0, data, halves, Judged(values, metadata.input, (), calibration, about)
        )
        found[precision] = {
            **_figures(figures(record, REPORT)),
            **_at_own(test, calls[precision]),
            "threshold": threshold,
            "verdict_flips": sum(
                a != b for a, b in zip(calls["fp32"], calls[precision], strict=True)
            ),
            "file_mb": file.stat().st_size / 1e6,
            "int8": _effect(metadata),
        }
        print(one.name, precision, found[precision], flush=True)
    return {"pictures": len(test), "precisions": found}


def _scores(file: Path, test: Sequence[ImageFile], metadata: ModelMetadata) -> list[float]:
    graph = on_cpu(onnx.load_from_string(read_model_file(file)[0]))
    inputs = frames.real([picture.path for picture in test], metadata.input)
    return [float(score) for score in scores(graph, list(inputs.values()), file.name)]


def _figures(found: dict[str, Any]) -> dict[str, Any]:
    return {
        "good": found["good"],
        "defect": found["defect"],
        "image_auroc": found["image_auroc"],
        "misses_at_5_percent": found["judged_threshold"][0]["misses"],
    }


def _at_own(test: Sequence[ImageFile], calls: Sequence[bool]) -> dict[str, int]:
    """Counts at the threshold in the file."""
    defect = [picture.label is not Label.GOOD for picture in test]
    return {
        "false_rejects": sum(c and not d for c, d in zip(calls, defect, strict=True)),
        "misses": sum(d and not c for c, d in zip(calls, defect, strict=True)),
    }


def _effect(metadata: ModelMetadata) -> dict[str, Any] | None:
    assert metadata.verification is not None
    int8 = metadata.verification.int8
    return None if int8 is None else int8.model_dump(mode="json")


def engines(files: Sequence[Path]) -> dict[str, Any]:
    """Builds exported files with TensorRT-RTX and audits what it lists."""
    found: dict[str, Any] = {}
    for file in files:
        metadata = read_model_file(file)[1]
        for target in TARGETS:
            built = dry_build(file, target)
            report = audit(
                built.layers,
                precision=metadata.precision,
                weight_bytes=file.stat().st_size,
                plan_bytes=len(built.plan),
            )
            moved = _activation_bytes(built.layers) + listed_weight_bytes(built.layers)
            found.setdefault(file.name, {})[target] = {
                "kernels": report.kernels,
                "plan_mb": len(built.plan) / 1e6,
                "activations_mb": _activation_bytes(built.layers) / 1e6,
                "memory_ms": {n: moved / d.gb_s / 1e6 for n, d in DEVICES.items()},
                "int8_kernels": sum(_reads_int8(layer) for layer in built.layers),
                "audit": {check.name: check.outcome for check in report.checks},
            }
            print(file.name, target, found[file.name][target], flush=True)
    return found


def _activation_bytes(layers: Sequence[Layer]) -> int:
    """Returns what the kernels read and write for one frame, weights apart."""
    return sum(
        math.prod(tensor["Dimensions"]) * _BYTES[tensor["Datatype"]]
        for layer in layers
        if layer["LayerType"] not in ("signal", "wait")
        for tensor in (*layer["Inputs"], *layer["Outputs"])
    )


def _reads_int8(layer: Layer) -> bool:
    return layer["LayerType"] == "correlation" and any(
        tensor["Datatype"] == "Int8" for tensor in layer["Inputs"]
    )


def _write_set(name: str, row: dict[str, Any]) -> None:
    path = machine.RESULTS / "int8.json"
    sets: dict[str, Any] = json.loads(path.read_text("utf-8"))["sets"] if path.is_file() else {}
    sets = dict(sorted({**sets, name: row}.items()))
    losses = [_loss(one["precisions"]) for one in sets.values()]
    greatest = max(loss for loss in losses if loss is not None)
    machine.write(
        "int8", {"half": REPORT, "seed": 0, "greatest_auroc_loss": greatest, "sets": sets}
    )


def main() -> None:
    """Writes results/int8.json, where other sets' rows stay, or results/int8_engines.json."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, nargs="+", default=[], metavar="FOLDER")
    parser.add_argument("--sets", nargs="+", help="of those found; all by default")
    parser.add_argument("--models", type=Path, metavar="FOLDER", help="keep models and files there")
    parser.add_argument("--engines", action="store_true", help="build the files kept there")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = args.models or Path(name)
        for one in find_sets(args.data) if args.data else ():
            if not args.sets or one.name in args.sets:
                _write_set(one.name, judged(one, folder))
        if args.engines:
            files = [f for p in PRECISIONS[1:] for f in sorted(folder.glob(f"*.{p}.onnx"))]
            files = [f for f in files if not args.sets or f.name.split(".")[0] in args.sets]
            machine.write("int8_engines", {"files": engines(files)})


def _loss(row: dict[str, Any]) -> float | None:
    if "refused" in row["int8"]:
        return None
    values = {p: row[p]["image_auroc"]["value"] for p in ("fp32", "int8")}
    return float(values["fp32"] - values["int8"])


if __name__ == "__main__":
    main()
