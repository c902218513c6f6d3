"""What the flow's width and depth cost: bytes, floors on a Jetson, latency here, AUROC.

    python -m benchmarks.flow_cost           bytes, computed floors, latency here (a minute)
    python -m benchmarks.flow_cost --auroc   image AUROC by width and depth (about 40 minutes)

At batch 1 every weight is read once for a frame, so no frame can be faster than the weights' bytes
divided by the memory's bandwidth: that is the floor, computed and not measured. Bandwidths are
those of NVIDIA's data sheets. Latency is that of the flow alone, in FP32, in ONNX Runtime on the
CPU.
AUROC is measured on the half that choices are made on, with paper-lite's features and training.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import onnxruntime
import torch

from differnet_runtime.model_file.metadata import FlowSpec
from differnet_training.features import default_cache_folder
from differnet_training.flow import NormalizingFlow, z2_score
from differnet_training.recipes import PAPER_LITE

from . import machine
from .accuracy import Bench, halves

BANDWIDTH_GB_S = {
    "Orin Nano 8 GB": 68.0,
    "Orin Nano Super": 102.0,
    "Orin NX 16 GB": 102.4,
    "AGX Orin": 204.8,
}
SHAPES = (
    ("the original", FlowSpec(features=768, blocks=8, width=2048)),
    ("the original, half as wide", FlowSpec(features=768, blocks=8, width=1024)),
    ("the original, a quarter as wide", FlowSpec(features=768, blocks=8, width=512)),
    ("paper-lite", FlowSpec(features=336, blocks=8, width=256)),
    ("edge-global", FlowSpec(features=960, blocks=4, width=128, whitened=True)),
)
WARM_UP, RUNS = 20, 200

DEPTHS_AND_WIDTHS = ((8, 128), (8, 256), (8, 512), (8, 1024), (4, 256), (2, 256))
SETS = ("mono",)
SEEDS = (0, 1, 2)


class _Scored(torch.nn.Module):
    def __init__(self, flow: NormalizingFlow) -> None:
        super().__init__()
        self.flow = flow

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return z2_score(self.flow(features)[0])


def cost(spec: FlowSpec) -> dict[str, object]:
    """Returns parameters, bytes in FP16, the time to read them on each device, latency here."""
    torch.manual_seed(0)
    flow = NormalizingFlow(spec).eval()
    parameters = sum(tensor.numel() for tensor in flow.state_dict().values())
    return {
        "features": spec.features,
        "blocks": spec.blocks,
        "width": spec.width,
        "parameters": parameters,
        "fp16_mb": 2 * parameters / 1e6,
        "floor_ms": {
            name: 2 * parameters / (bandwidth * 1e9) * 1e3
            for name, bandwidth in BANDWIDTH_GB_S.items()
        },
        "cpu_latency_ms": latency_ms(flow, spec.features),
    }


def latency_ms(flow: NormalizingFlow, features: int) -> dict[str, float]:
    """Times the flow for one feature vector; returns median, least and greatest."""
    x = torch.randn(1, features)
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "flow.onnx")
        torch.onnx.export(_Scored(flow), (x,), path, dynamo=False, opset_version=17)
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    feed = {session.get_inputs()[0].name: x.numpy()}
    times = []
    for _ in range(WARM_UP + RUNS):
        start = time.perf_counter()
        session.run(None, feed)
        times.append((time.perf_counter() - start) * 1e3)
    times = times[WARM_UP:]
    return {"median": statistics.median(times), "min": min(times), "max": max(times)}


def auroc() -> dict[str, object]:
    """Trains paper-lite at each depth and width; returns image AUROC by cell type."""
    bench = Bench(default_cache_folder(), halves("both")[0])
    found: dict[str, object] = {}
    for blocks, width in DEPTHS_AND_WIDTHS:
        recipe = PAPER_LITE.model_copy(update={"blocks": blocks, "width": width})
        row = {}
        for kind in SETS:
            runs = [bench.run(halves(kind)[0], seed, recipe)["z2"] for seed in SEEDS]
            row[kind] = {
                "mean": float(np.mean(runs)),
                "standard_deviation": float(np.std(runs, ddof=1)),
            }
        found[f"{blocks} blocks, {width} wide"] = {"blocks": blocks, "width": width, "auroc": row}
        print(found, flush=True)
    return found


def main() -> None:
    """Writes results/flow_cost.json or results/flow_auroc.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--auroc", action="store_true")
    if parser.parse_args().auroc:
        machine.write("flow_auroc", {"half": "choice", "seeds": list(SEEDS), "flows": auroc()})
        return
    flows = {name: cost(spec) for name, spec in SHAPES}
    machine.write("flow_cost", {"bandwidth_gb_s": BANDWIDTH_GB_S, "runs": RUNS, "flows": flows})


if __name__ == "__main__":
    main()
