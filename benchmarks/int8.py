"""Eight bits: what a quantised default graph would gain on a CPU, and what it would cost.

    python -m benchmarks.int8       (about 5 minutes on two cores)

The recipe `edge`, learnt on the half that choices are made on, quantised by ONNX Runtime's own
static quantisation (QDQ; weights by channel, activations by tensor; ranges of the training
pictures): the extractor's convolutions alone, and with them what lies between. Windows and flow
stay in FP32. The files are judged by the pictures left out, over seeds; those of the first seed are
timed, block by block in turn.
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)

from differnet_export.exporter import export_model
from differnet_runtime.images import read_image
from differnet_runtime.preprocess import preprocess
from differnet_training.datasets import Picture, open_data
from differnet_training.feature_cache import default_cache_folder
from differnet_training.learning import Job, learn
from differnet_training.recipes import EDGE

from . import machine
from .accuracy import Half, halves, split
from .models import contract_of
from .peers_speed import Split, judged, latencies

CANDIDATES = {
    "convolutions": (["Conv"], CalibrationMethod.MinMax),
    "convolutions, percentile": (["Conv"], CalibrationMethod.Percentile),
    "whole blocks": (["Conv", "Add", "Clip", "Relu"], CalibrationMethod.MinMax),
}
SEEDS = (0, 1, 2)
RANGES = 64
"""Pictures that the ranges of the activations come from."""


class Pictures(CalibrationDataReader):
    """Training pictures, one at a time."""

    def __init__(self, pictures: Sequence[Picture]) -> None:
        contract = contract_of(EDGE)
        self._frames = (preprocess(read_image(picture.path), contract) for picture in pictures)

    def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
        """Returns the next picture as the graph's input; None after the last."""
        frame = next(self._frames, None)
        return None if frame is None else {"image": frame[None]}


def beside_the_extractor(model: ModelProto) -> list[str]:
    """Returns the names of all nodes that are not the extractor's; these stay in FP32."""
    return [node.name for node in model.graph.node if not node.name.startswith("/network/")]


def quantised(file: Path, output: Path, name: str, pictures: Sequence[Picture]) -> Path:
    """Quantises a file in one of the ways."""
    operators, method = CANDIDATES[name]
    quantize_static(
        file,
        output,
        Pictures(pictures),
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=operators,
        nodes_to_exclude=beside_the_extractor(onnx.load(file)),
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        calibrate_method=method,
    )
    return output


def made(folder: Path, parts: Split, seed: int) -> dict[str, Path]:
    """Learns, exports and quantises; returns the files by way, FP32 among them."""
    data = dataclasses.replace(open_data("elpv:mono"), good=tuple(parts.train), test=())
    contract, cache = contract_of(EDGE), default_cache_folder()
    learn(Job(data, EDGE, contract, folder / "model", cache, seed=seed))
    plain = folder / "fp32.onnx"
    export_model(folder / "model", plain, precision="fp32")
    return {"fp32": plain} | {
        way: quantised(plain, folder / f"{index}.onnx", way, parts.train[:RANGES])
        for index, way in enumerate(CANDIDATES)
    }


def parts_of(half: Half, seed: int) -> Split:
    """Returns a seed's pictures to learn from, and those left out."""
    pool, held = split(half, seed)
    return Split(pool, held, half.defect)


def timed(files: dict[str, Path], picture: Path) -> dict[str, dict[str, Any]]:
    """Times the files; returns what is shown of each beside its AUROC."""
    times = {str(threads): latencies(files, picture, threads) for threads in (1, 2)}
    return {
        way: {
            "latency_ms": {threads: found[way] for threads, found in times.items()},
            "file_mb": file.stat().st_size / 1e6,
            "quantised": sum(n.op_type == "QuantizeLinear" for n in onnx.load(file).graph.node),
        }
        for way, file in files.items()
    }


def main() -> None:
    """Measures and writes results/int8.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--no-write", action="store_true", help="print only")
    args = parser.parse_args()
    half = halves("mono")[0]
    rows: dict[str, dict[str, Any]] = {}
    found: dict[str, list[float]] = {way: [] for way in ("fp32", *CANDIDATES)}
    for seed in SEEDS:
        parts = parts_of(half, seed)
        with tempfile.TemporaryDirectory() as name:
            files = made(Path(name), parts, seed)
            rows = rows or timed(files, parts.good[0].path)
            for way, file in files.items():
                found[way].append(judged(file, parts))
                print(seed, way, found[way][-1], flush=True)
    for way, values in found.items():
        rows[way]["image_auroc"] = {
            "mean": float(np.mean(values)),
            "standard_deviation": float(np.std(values, ddof=1)),
        }
        print(way, rows[way], flush=True)
    if not args.no_write:
        machine.write("int8", {"half": "choice", "seeds": SEEDS, "ways": rows})


if __name__ == "__main__":
    main()
