"""`differnet demo`: the whole chain on real pictures of solar cells, with one command."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from differnet_runtime.command import Command
from differnet_runtime.commands.arguments import new_folder, seed

if TYPE_CHECKING:
    from differnet_training.datasets import DataSet


def _configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--output", type=new_folder, default="runs/demo", help="default runs/demo")
    parser.add_argument("--cells", choices=("mono", "poly", "both"), default="mono")
    parser.add_argument("--seed", type=seed, default=0)
    parser.add_argument("--cache", type=new_folder, help="folder of the feature cache")


def _run(args: argparse.Namespace) -> int:
    from differnet_training.datasets import open_data

    data = open_data(f"elpv:{args.cells}", args.seed)
    output: Path = args.output
    _clear(output)
    start = time.monotonic()
    print(data.note)
    with _step(1, "learn from good cells: features, flow, threshold"):
        _train(args)
    with _step(2, "export one ONNX file, and compare it with torch"):
        _export(output)
    with _step(3, "judge the held-out cells with the exported file, as a stream"):
        scores, latencies = _judge(output, data)
    with _step(4, "report"):
        table = _report(args, data, scores, latencies)
    print(f"\n{table}\n\n{_where(output)}\n\nTook {time.monotonic() - start:.0f} s.")
    return 0


@contextmanager
def _step(number: int, what: str) -> Iterator[None]:
    print(f"\n[{number}/4] {what}", flush=True)
    start = time.monotonic()
    yield
    print(f"      {time.monotonic() - start:.0f} s", flush=True)


def _clear(output: Path) -> None:
    """Removes what an earlier demo left in the folder, and nothing else."""
    for name in ("model", "part.onnx", "report.html", "report.json", "verdicts.jsonl"):
        path = output / name
        if path.is_dir():
            for file in path.iterdir():
                file.unlink()
        else:
            path.unlink(missing_ok=True)


def _train(args: argparse.Namespace) -> None:
    from differnet_runtime.inspection.calibration import describe
    from differnet_runtime.model_file.detection_limits import said
    from differnet_training.api import train

    source = f"elpv:{args.cells}"
    metadata = train(source, args.output / "model", seed=args.seed, cache=args.cache)
    assert metadata.calibration is not None
    print(f"      {describe(metadata.calibration)}")
    if metadata.detection_limits is not None:
        print("\n".join(f"      {line}" for line in said(metadata.detection_limits).splitlines()))


def _export(output: Path) -> None:
    from .exporter import export_model
    from .verify import recorded_images, verify

    # The demo runs on a CPU, which is slower in FP16.
    export_model(output / "model", output / "part.onnx", precision="fp32")
    found = verify(output / "part.onnx", output / "model", recorded_images(output / "model"))
    print(
        f"      {len(found.comparison.names)} frames: greatest relative difference "
        f"{found.comparison.greatest:.1e}, {len(found.comparison.flips)} verdict flips; "
        f"{len(found.gross)} gross inputs {'caught' if found.passed else 'NOT ALL CAUGHT'}"
    )


def _judge(output: Path, data: DataSet) -> tuple[dict[Path, float], list[float]]:
    from differnet_runtime.cameras import FilesCamera
    from differnet_runtime.command import progress
    from differnet_runtime.detector import Detector, inspect

    paths = [picture.path for picture in data.test]
    scores: dict[Path, float] = {}
    latencies = []
    with (
        Detector(output / "part.onnx") as detector,
        FilesCamera(paths, data.name) as camera,
        (output / "verdicts.jsonl").open("w", encoding="utf-8") as verdicts,
    ):
        stream = inspect(camera, detector, score_refused=True)
        for path, (_, inspection) in zip(
            paths, progress(stream, "judging", total=len(paths), unit="frame"), strict=True
        ):
            verdicts.write(json.dumps(inspection.record()) + "\n")
            latencies.append(inspection.stages_ms["total"])
            if inspection.score is not None:
                scores[path] = inspection.score.value
    return scores, latencies


def _report(
    args: argparse.Namespace, data: DataSet, scores: dict[Path, float], latencies: list[float]
) -> str:
    from differnet_training.evaluation import evaluate
    from differnet_training.features import default_cache_folder
    from differnet_training.report import summary_table, write_report

    report = evaluate(
        args.output / "model",
        data,
        cache=args.cache or default_cache_folder(),
        scores=scores,
        latency_ms=latencies,
        scored_by="part.onnx",
    )
    write_report(report, args.output)
    return summary_table(report)


def _where(output: Path) -> str:
    return "\n".join(
        f"{what:<10} {output / name}"
        for what, name in (
            ("model", "model/"),
            ("file", "part.onnx"),
            ("report", "report.html"),
            ("", "report.json"),
            ("verdicts", "verdicts.jsonl"),
        )
    )


COMMAND = Command(
    name="demo",
    summary="train, export and judge real solar cells, with a report",
    configure=_configure,
    run=_run,
    extra="train,export,onnx-cpu,opencv-headless,demo",
    modules=("torch", "torchvision", "timm", "sklearn", "onnx", "onnxruntime", "elpv_dataset"),
)
