"""What this machine could do at most, and how near the default graph comes to it.

    python -m benchmarks.limits                 the recipes `edge` and `edge-global` (2 minutes)
    python -m benchmarks.limits part.onnx       a model file

Peak and latency are measured in turn, round by round, so that a busy machine shows in both. The
peak is the greatest matrix product of numpy, torch and ONNX Runtime; the bandwidth is the greatest
of a copy and a dot product, by how many bytes are touched. The floor of a graph is that of its
nodes one after another (see `roofline.py`). Where the time really goes comes from ONNX Runtime's
profile of other runs. Figures of devices that are not here are computed from data sheets, and
marked so.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper
from threadpoolctl import threadpool_limits

from differnet_export.graph import uses
from differnet_runtime.inspection.preprocess import golden_frames
from differnet_runtime.model_file.contract import InputContract
from differnet_training.recipes import EDGE, EDGE_GLOBAL

from . import machine
from .devices import DEVICES
from .graph_cost import graphs
from .models import contract_of
from .roofline import (
    DENSE,
    DEPTHWISE,
    PARTS,
    REST,
    Machine,
    constant_bytes,
    count,
    floors_ms,
    unavoidable_ms,
)

ROUNDS, FRAMES, SETTLING = 8, 25, 8
SIDES = (256, 512, 1024)
WORKING_SETS = tuple(2**k for k in range(16, 29, 2))
PROFILED = 60


def peak_flops(threads: int) -> dict[str, float]:
    """Measures FP32 matrix products; FLOPs a second, by library."""
    return {name: _best(product, threads) for name, product in _PRODUCTS.items()}


def _best(product: Callable[[int, int], Callable[[], object]], threads: int) -> float:
    best = 0.0
    with threadpool_limits(threads):
        for side in SIDES:
            call = product(side, threads)
            call()
            for _ in range(4):
                start = time.perf_counter()
                call()
                best = max(best, 2.0 * side**3 / (time.perf_counter() - start))
    return best


def _by_numpy(side: int, threads: int) -> Callable[[], object]:  # noqa: ARG001 - limited outside
    a, b, out = (np.ones((side, side), np.float32) for _ in range(3))
    return lambda: np.matmul(a, b, out=out)


def _by_torch(side: int, threads: int) -> Callable[[], object]:
    torch.set_num_threads(threads)
    a, b, out = (torch.ones(side, side) for _ in range(3))
    return lambda: torch.mm(a, b, out=out)


def _by_onnxruntime(side: int, threads: int) -> Callable[[], object]:
    shape = [side, side]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)
    weights = onnx.numpy_helper.from_array(np.ones(shape, np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])], "product", [x], [y], [weights]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    opened = session(model, threads)
    feed = {"x": np.ones(shape, np.float32)}
    return lambda: opened.run(None, feed)


_PRODUCTS = {"numpy": _by_numpy, "torch": _by_torch, "onnxruntime": _by_onnxruntime}


def session(model: ModelProto, threads: int, profile: Path | None = None) -> Any:  # noqa: ANN401
    """Opens a model in ONNX Runtime on the CPU."""
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = threads
    if profile is not None:
        settings.enable_profiling, settings.profile_file_prefix = True, str(profile)
    return onnxruntime.InferenceSession(
        model.SerializeToString(), settings, providers=["CPUExecutionProvider"]
    )


def bandwidths(threads: int) -> dict[int, float]:
    """Measures bytes a second by the bytes that are touched; some of the threads may be faster."""
    with ThreadPoolExecutor(threads) as pool, threadpool_limits(1):
        return {
            size: max(_bandwidth(pool, some, size) for some in range(1, threads + 1))
            for size in WORKING_SETS
        }


def _bandwidth(pool: ThreadPoolExecutor, threads: int, size: int) -> float:
    count, repeats = size // threads // 8, max(1, 2**25 // size)
    arrays = [np.ones((2, count), np.float32) for _ in range(threads)]
    best = 0.0
    for work in (copied, _read):
        for _ in range(6):
            start = time.perf_counter()
            list(pool.map(work, arrays, [repeats] * threads))
            moved = threads * 2 * 4 * count * repeats
            best = max(best, moved / (time.perf_counter() - start))
    return best


def copied(pair: NDArray[np.float32], repeats: int) -> None:
    """Copies the second of a pair of arrays over the first, so many times."""
    target, source = pair
    for _ in range(repeats):
        np.copyto(target, source)


def _read(pair: NDArray[np.float32], repeats: int) -> None:
    for _ in range(repeats):
        np.dot(pair[0], pair[1])


def interpolated(found: dict[int, float]) -> Callable[[float], float]:
    """Returns bytes a second for any number of bytes: that of the next smaller working set.

    The smaller one is the faster one, so that a floor stays a floor.
    """

    def bytes_per_s(touched: float) -> float:
        smaller = [size for size in found if size <= touched] or [min(found)]
        # Measured a little faster than a smaller one, it counts for all that are smaller too.
        return max(rate for size, rate in found.items() if size >= max(smaller))

    return bytes_per_s


def measured_ms(model: ModelProto, threads: int, size: int) -> Callable[[], list[float]]:
    """Returns a function that times a block of frames."""
    opened = session(model, threads)
    frame = golden_frames(InputContract(size=size), 1)

    def block() -> list[float]:
        times = []
        for _ in range(SETTLING + FRAMES):
            start = time.perf_counter()
            opened.run(None, {"image": frame})
            times.append((time.perf_counter() - start) * 1e3)
        return times[SETTLING:]

    return block


def profiled_ms(model: ModelProto, threads: int, size: int) -> dict[str, float]:
    """Returns where ONNX Runtime's time goes: the median of each node, by part."""
    with tempfile.TemporaryDirectory() as folder:
        opened = session(model, threads, Path(folder) / "profile")
        frame = golden_frames(InputContract(size=size), 1)
        for _ in range(PROFILED):
            opened.run(None, {"image": frame})
        events = json.loads(Path(opened.end_profiling()).read_text())
    times = defaultdict(list)
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            times[event["name"].removesuffix("_kernel_time"), event["args"]["op_name"]].append(
                event["dur"] / 1e3
            )
    depthwise = _names_of(DEPTHWISE, model)
    found = dict.fromkeys(PARTS, 0.0)
    for (name, operator), values in times.items():
        found[_part(name, operator, depthwise)] += float(np.median(values))
    return found


def _names_of(part: str, model: ModelProto) -> set[str]:
    """Returns what a fused convolution may be called: its own output, or its activation's."""
    users = uses(model.graph.node)
    own = [one.name for one in count(model) if one.part == part]
    return {*own, *(name for one in own for user in users[one] for name in user.output)}


def _part(name: str, operator: str, depthwise: set[str]) -> str:
    if operator in ("Conv", "FusedConv"):
        return DEPTHWISE if name.removesuffix("_nchwc") in depthwise else DENSE
    return DENSE if operator in ("FusedMatMul", "FusedGemm", "MatMul", "Gemm") else REST


def limits(model: ModelProto, size: int, threads: int) -> dict[str, Any]:
    """Measures a graph beside the machine's limits, in turn."""
    block = measured_ms(model, threads, size)
    times, peaks = [], []
    for _ in range(ROUNDS):
        peaks.append(peak_flops(threads))
        times.append(block())
    peak = {name: max(one[name] for one in peaks) for name in peaks[0]}
    rates = bandwidths(threads)
    work = count(model)
    best = Machine(max(peak.values()), interpolated(rates))
    floors = floors_ms(work, best)
    every = np.array(times)
    median = float(np.median(every))
    return {
        "threads": threads,
        "peak_gflop_s": {name: value / 1e9 for name, value in peak.items()},
        "bandwidth_gb_s": {str(bytes_): rate / 1e9 for bytes_, rate in rates.items()},
        "gflop": {part: sum(w.flops for w in work if w.part == part) / 1e9 for part in PARTS},
        "constants_mb": constant_bytes(model) / 1e6,
        "floor_ms": floors,
        "profiled_ms": profiled_ms(model, threads, size),
        "ms": {
            "median": median,
            "p05": float(np.quantile(every, 0.05)),
            "p95": float(np.quantile(every, 0.95)),
            "rounds": [float(np.median(one)) for one in times],
        },
        "over_floor": median / floors["all"],
    }


def computed_ms(model: ModelProto, size: int, batch: int = 1) -> dict[str, dict[str, Any]]:
    """Returns floors of devices that are not here: weights in FP16, every cache trusted.

    Args:
        model: N is free in its input.
        size: Height and width of the input.
        batch: Frames at once; the floor is that of all of them.
    """
    found = {}
    flops = sum(one.flops for one in count(model, batch))
    moved = constant_bytes(model) / 2 + batch * 3.0 * size * size
    for name, device in DEVICES.items():
        rate = device.gb_s * 1e9
        limit = Machine(device.fp16_tflops * 1e12, lambda _, rate=rate: rate)
        found[name] = {
            "computed": True,
            "floor_ms": unavoidable_ms(flops, moved, limit),
            "fp16_tflops": device.fp16_tflops,
            "gb_s": device.gb_s,
            "source": device.source,
        }
    return found


def main() -> None:
    """Measures and writes results/limits.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="?", type=Path)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--no-write", action="store_true", help="print only")
    args = parser.parse_args()
    if args.model:
        model = onnx.load(args.model)
        size = model.graph.input[0].type.tensor_type.shape.dim[1].dim_value
        found = {args.model.name: (model, size)}
    else:
        found = {
            r.name: (graphs(r)["whole graph"], contract_of(r).height) for r in (EDGE, EDGE_GLOBAL)
        }
    result: dict[str, Any] = {}
    for name, (model, size) in found.items():
        rows = [limits(model, size, threads) for threads in args.threads]
        result[name] = {"rows": rows, "devices": computed_ms(model, size)}
        for row in rows:
            print(name, json.dumps(row, indent=1), flush=True)
        print(json.dumps(result[name]["devices"], indent=1), flush=True)
    settings = {"rounds": ROUNDS, "frames": FRAMES, "settling": SETTLING}
    if not args.model and not args.no_write:
        machine.write("limits", {**settings, "graphs": result})


if __name__ == "__main__":
    main()
