"""anomalib's models beside ours: AUROC, latency, size, memory, training time, first verdict.

    python -m benchmarks.peers_speed                        everything (an hour on two cores)
    python -m benchmarks.peers_speed --methods padim        some of it; joined to what is there
    python -m benchmarks.peers_speed --time                 only latencies and starts, of kept files

Every model learns from the same cells (monocrystalline, the half that is reported, seed 0) and
reads the same pixels; all but EfficientAD with the weights of the same EfficientNet-Lite0. Each is
exported by its own project's export and run by the same ONNX Runtime on the same threads. AUROC is
that of the exported file. Latency is inference alone, with all outputs (the peers' map of 256 x 256
among them; asked for the score alone, ONNX Runtime computes it all the same), block by block in
turn; our graphs normalise inside, the peers' pictures come normalised. FastFlow and CFlow learn for
so many epochs as `PEERS` says, not until they stop gaining. EfficientAD's network and its
teacher's weights are its own; these can't be had without a download from a release page: its
latency is measured with random ones, and it has no AUROC.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch

from differnet_export.exporter import export_model
from differnet_runtime.images import read_image
from differnet_runtime.inspection.preprocess import preprocess
from differnet_runtime.model_file.contract import InputContract
from differnet_training.datasets import ImageFile, open_data
from differnet_training.features import default_cache_folder
from differnet_training.job import TrainingSettings
from differnet_training.learning import learn
from differnet_training.recipes import EDGE, EDGE_GLOBAL
from differnet_training.results import auroc
from differnet_training.weights import packaged_state

from . import machine
from .accuracy import halves, split
from .peers import ANOMALIB, BACKBONE, METHODS, SIZE, environment
from .peers_once import feed, score, session
from .startup import once

PEERS: dict[str, dict[str, Any]] = {
    **METHODS,
    "fastflow": {"flow_steps": 8, "epochs": 20},
    "fastflow-100": {"flow_steps": 8, "epochs": 100},
    "cflow": {"layers": ["blocks.2", "blocks.4"], "epochs": 6},
    "efficient_ad": {"weights": "random: its time is right, its scores are not"},
}
OURS = {"edge": EDGE, "edge-global": EDGE_GLOBAL}
WITHOUT_AUROC = ("efficient_ad",)
EXPORTERS = ("onnx", "onnxscript", "onnx_ir", "ml_dtypes", "protobuf")
ROUNDS, FRAMES, SETTLING, STARTS = 6, 10, 3, 5
LIMIT_S = 3600
"""For training and exporting a peer; what takes longer is listed as that."""


@dataclasses.dataclass(frozen=True)
class Split:
    """What all learn from, and are judged by.

    Args:
        train: The pool; ours leave a fifth of it to calibration.
        good: Held out.
        defect: Held out.
    """

    train: Sequence[ImageFile]
    good: Sequence[ImageFile]
    defect: Sequence[ImageFile]


def the_split() -> Split:
    """Returns seed 0 of the reported half."""
    half = halves("mono")[1]
    pool, held = split(half, 0)
    return Split(pool, held, half.defect)


def folder_of(name: str) -> Path:
    """Returns where a model's files are kept."""
    return default_cache_folder().parent / "benchmarks" / "peers" / name


def exporters() -> Path:
    """Returns a folder with what anomalib's export needs; its own environment stays as it is."""
    folder = default_cache_folder().parent / "peers-onnx"
    if not (folder / "onnx").is_dir():
        install = ["-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder)]
        subprocess.run([environment(), *install, *EXPORTERS], check=True)
    return folder


def peer_versions() -> dict[str, str]:
    """Returns the versions that peers are trained and exported with, as their own Python says."""
    code = "import importlib.metadata as m, sys; print(*map(m.version, sys.argv[1:]))"
    names = ("torch", "timm", *EXPORTERS)
    environ = {**os.environ, "PYTHONPATH": str(exporters())}
    said = subprocess.check_output([environment(), "-c", code, *names], env=environ, text=True)
    return dict(zip(names, said.split(), strict=True))


def make_peer(method: str, parts: Split, threads: int) -> dict[str, Any]:
    """Trains and exports a peer in its own environment; returns what that took."""
    output = folder_of(method)
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        contract = InputContract(size=SIZE)
        pixels = [preprocess(read_image(picture.path), contract) for picture in parts.train]
        np.save(folder / "pictures.npy", np.stack(pixels))
        network = timm.create_model(BACKBONE, pretrained=False)
        torch.save(packaged_state("efficientnet_lite0", network), folder / "weights.pt")
        job = {
            "method": method.partition("-")[0],
            "backbone": BACKBONE,
            "settings": PEERS[method],
            "size": SIZE,
            "seed": 0,
            "train": list(range(len(pixels))),
            "pictures": str(folder / "pictures.npy"),
            "weights": str(folder / "weights.pt"),
            "threads": threads,
            "output": str(output),
        }
        (folder / "job.json").write_text(json.dumps(job))
        worker = Path(__file__).with_name("peers_export_worker.py")
        paths = os.pathsep.join([str(worker.parent), str(exporters())])
        environ = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": str(threads)}
        command = [environment(), worker, folder / "job.json"]
        subprocess.run(command, env=environ, check=True, timeout=LIMIT_S)
    about: dict[str, Any] = json.loads((output / "about.json").read_text())
    return about


def make_ours(name: str, parts: Split, threads: int) -> dict[str, Any]:
    """Trains, calibrates and exports one of ours, from an empty cache."""
    output, recipe = folder_of(name), OURS[name]
    torch.set_num_threads(threads)
    data = dataclasses.replace(open_data("elpv:mono"), good=tuple(parts.train), test=())
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        model = Path(folder) / "model"
        learn(
            TrainingSettings(data, recipe, InputContract(size=SIZE), model, Path(folder) / "cache")
        )
        about = {"training_s": time.perf_counter() - start}
        output.mkdir(parents=True, exist_ok=True)
        export_model(model, output / "part.onnx", precision="fp32")
    (output / "about.json").write_text(json.dumps(about))
    return about


def made(name: str, parts: Split, threads: int) -> dict[str, Any]:
    """Trains, exports and judges a model; a peer that fails is listed with its reason."""
    settings = {"settings": PEERS.get(name, {}), **machine.stamp()}
    try:
        about = (make_ours if name in OURS else make_peer)(name, parts, threads)
    except subprocess.TimeoutExpired:
        return {**settings, "reason": f"training and export took longer than {LIMIT_S} s"}
    except subprocess.CalledProcessError as error:
        return {
            **settings,
            "reason": f"anomalib's training or export ended with {error.returncode}",
        }
    found = None if name in WITHOUT_AUROC else judged(file_of(name), parts)
    return {**settings, **about, "image_auroc": found, "file_mb": size_mb(name)}


def ran(table: dict[str, Any]) -> list[str]:
    """Returns those that were exported."""
    return [name for name, row in table.items() if "reason" not in row]


def without_a_file(table: dict[str, Any], made_now: Sequence[str]) -> list[str]:
    """Returns those that were exported elsewhere: results are committed, files are not."""
    kept = [name for name in ran(table) if name not in made_now]
    return [name for name in kept if not any(folder_of(name).rglob("*.onnx"))]


def file_of(name: str) -> Path:
    """Returns a model's exported file."""
    return next(path for path in sorted(folder_of(name).rglob("*.onnx")))


def judged(file: Path, parts: Split) -> float:
    """Returns the image AUROC of an exported file."""
    opened = session(str(file), 0)
    contract = InputContract(size=SIZE)
    good, defect = (
        np.array(
            [
                score(opened, feed(opened, preprocess(read_image(picture.path), contract)))
                for picture in group
            ]
        )
        for group in (parts.good, parts.defect)
    )
    return auroc(good, defect)


def latencies(
    files: Mapping[str, Path], picture: Path, threads: int
) -> dict[str, dict[str, float]]:
    """Times inference of all files, block by block in turn."""
    image = preprocess(read_image(picture), InputContract(size=SIZE))
    opened = {name: session(str(file), threads) for name, file in files.items()}
    feeds = {name: feed(one, image) for name, one in opened.items()}
    times: dict[str, list[float]] = {name: [] for name in files}
    for _ in range(ROUNDS):
        for name, one in opened.items():
            block = []
            for _ in range(SETTLING + FRAMES):
                start = time.perf_counter()
                one.run(None, feeds[name])
                block.append((time.perf_counter() - start) * 1e3)
            times[name] += block[SETTLING:]
    return {name: _quantiles(values) for name, values in times.items()}


def _quantiles(values: list[float]) -> dict[str, float]:
    p05, median, p95 = np.quantile(values, (0.05, 0.5, 0.95))
    return {"median": float(median), "p05": float(p05), "p95": float(p95)}


def starts(name: str, picture: Path, threads: int) -> dict[str, float]:
    """Times clean processes to their first verdict; returns the median, and the peak memory."""
    command = [sys.executable, "-m", "benchmarks.peers_once", str(file_of(name)), str(picture)]
    command.append(str(threads))
    found = [once(command)["first_s"] for _ in range(STARTS)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return {
        "first_verdict_s": float(np.median(found)),
        "peak_memory_mib": float(said.splitlines()[1]),
    }


def size_mb(name: str) -> float:
    """Returns the size of the file and of the weights beside it."""
    beside = file_of(name).parent
    return sum(path.stat().st_size for path in beside.glob("*.onnx*")) / 1e6


def main() -> None:
    """Measures what the arguments ask for, and joins it to results/peers.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--methods", nargs="+", choices=[*OURS, *PEERS], default=[*OURS, *PEERS])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--time", action="store_true", help="only time what was made before")
    parser.add_argument("--no-time", action="store_true", help="only make and judge")
    args = parser.parse_args()
    parts = the_split()
    path = machine.RESULTS / "peers.json"
    before: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    table: dict[str, Any] = before.get("models", {})
    versions: dict[str, str] = before.get("peer_versions", {})
    most, to_make = max(args.threads), [] if args.time else args.methods
    missing = [] if args.no_time else without_a_file(table, to_make)
    if missing:
        parser.error(f"no exported file here of {', '.join(missing)}: make them, or use --no-time")
    if not set(PEERS).isdisjoint(args.methods):
        versions = peer_versions()  # makes their environment; offline, it fails here
    for name in to_make:
        table[name] = made(name, parts, most)
        print(name, table[name], flush=True)
        _write(table, parts, versions)
    if not args.no_time:
        picture = parts.good[0].path
        files = {name: file_of(name) for name in ran(table)}
        for name in files:
            table[name] |= {"latency_ms": {}, "timed": machine.stamp()}
        for threads in args.threads:
            for name, found in latencies(files, picture, threads).items():
                table[name]["latency_ms"][str(threads)] = found
        for name in files:
            table[name] |= starts(name, picture, most)
            print(name, table[name], flush=True)
        _write(table, parts, versions)


def _write(table: dict[str, Any], parts: Split, versions: dict[str, str]) -> None:
    counts = {name: len(group) for name, group in vars(parts).items()}
    about: dict[str, Any] = {"anomalib": ANOMALIB, "peer_versions": versions, "backbone": BACKBONE}
    about |= {"half": "report", "seed": 0}
    machine.write("peers", {**about, "pictures": counts, "models": table})


if __name__ == "__main__":
    main()
