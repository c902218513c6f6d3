"""The tables of benchmarks/README.md: speed, limits, start, the station's loop, the peers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .markdown import mean_of, median_of, milliseconds, table
from .roofline import PARTS


def original(result: dict[str, Any]) -> str:
    """A frame's score, beside the original's procedure."""
    head = ["pair", "threads", "the original's procedure, p50 (p5 to p95)", "this runtime"]
    head += ["ratio (least to greatest of the rounds)"]
    rows = []
    for row in result["rows"]:
        ratio, least, greatest = map(
            _times, (row["ratio"], *(row["ratio_of_rounds"][k] for k in ("least", "greatest")))
        )
        times = (milliseconds(row["ms"][whose]) for whose in ("original", "ours"))
        rows.append([row["pair"], row["threads"], *times, f"{ratio} ({least} to {greatest})"])
    return table(head, rows)


def _times(ratio: float) -> str:
    return f"{ratio:.0f}" if ratio >= 10 else f"{ratio:.1f}"


def in_short(
    original: dict[str, Any],
    training: dict[str, Any],
    loop: dict[str, Any],
    startup: dict[str, Any],
) -> str:
    """The README's few lines, from several results."""
    frame = next(
        row
        for row in original["rows"]
        if row["threads"] == 1 and row["pair"] == "edge against the original"
    )
    learnt = training["edge"]["empty_cache_s"]["median"]
    procedure = training["original_procedure"]
    some, every = procedure.get("timed_batches_of", (0, 0))
    of_batches = f" of {some} of {every} batches" if some < every else ""
    first = startup["rows"]["differnet run, auto"]["first_s"]["median"]
    epochs = f"extrapolated from {procedure['timed_epochs']} epochs{of_batches}"
    rows = [
        [
            "a frame's score, one thread",
            f"{frame['ms']['ours']['median']:.1f} ms",
            f"{frame['ms']['original']['median']:.0f} ms",
        ],
        [
            f"{training['pictures']} pictures to a saved model",
            f"{learnt:.0f} s",
            f"{procedure['extrapolated_s'] / 3600:.1f} h, {epochs}",
        ],
        [
            "all of a 720p frame but decoding and inference",
            f"{loop['overhead']['720p']['overhead_ms']['p50']:.1f} ms",
            "",
        ],
        ["from `differnet run` to the first verdict", f"{first:.1f} s", ""],
    ]
    return table(["on two CPU cores", "this", "the original's procedure"], rows)


def limits(result: dict[str, Any]) -> str:
    """Each graph's latency beside its floor, by part."""
    rows = []
    for name, graph in result["graphs"].items():
        for row in graph["rows"]:
            floor, profiled = row["floor_ms"], row["profiled_ms"]
            peak = max(row["peak_gflop_s"], key=row["peak_gflop_s"].get)
            rows.append(
                [
                    name,
                    row["threads"],
                    f"{row['peak_gflop_s'][peak]:.0f} ({peak})",
                    *(f"{floor[part]:.2f}, {profiled[part]:.2f} ms" for part in PARTS),
                    f"{floor['all']:.2f} ms",
                    milliseconds(row["ms"]),
                    f"{row['over_floor']:.2f}",
                ]
            )
    head = ["graph", "threads", "greatest product, GFLOP/s"]
    head += [*(f"{part}: floor, profiled" for part in PARTS), "floor"]
    measured = table([*head, "latency, p50 (p5 to p95)", "latency over floor"], rows)
    return f"{measured}\n\n{_devices(result['graphs'])}"


def _devices(graphs: dict[str, Any]) -> str:
    sizes = ", ".join(
        f"{name} {graph['rows'][0]['constants_mb'] / 2:.1f} MB" for name, graph in graphs.items()
    )
    rows = [
        [
            device,
            f"{about['fp16_tflops']:.3g}",
            f"{about['gb_s']:.0f}",
            about["source"],
            *(f"{graph['devices'][device]['floor_ms']:.2g} ms" for graph in graphs.values()),
        ]
        for device, about in next(iter(graphs.values()))["devices"].items()
    ]
    head = ["device", "dense FP16, TFLOPS", "GB/s", "from"]
    return (
        f"Computed, not measured: FP16, every weight read once ({sizes}), every cache trusted.\n\n"
    ) + table([*head, *(f"floor of {name}, computed" for name in graphs)], rows)


def camera_loop(result: dict[str, Any]) -> str:
    """What the station's own code takes, and how many cameras it holds."""
    stages = list(next(iter(result["overhead"].values()))["stages_ms"])
    rows = []
    for name, found in result["overhead"].items():
        runs, times = found["p50_of_runs_ms"], found["overhead_ms"]
        rows.append(
            [
                name,
                f"{times['p50']:.2f} ms ({runs['least']:.2f} to {runs['greatest']:.2f})",
                *(f"{times[quantile]:.2f} ms" for quantile in ("p95", "p99", "max")),
                f"{found['cpu_ms_a_frame']:.2f} ms",
                *(f"{found['stages_ms'][stage]:.2f} ms" for stage in stages),
            ]
        )
    head = ["frames", "p50 (of all runs)", "p95", "p99", "max", "processor time"]
    overhead = table([*head, *stages], rows)
    rows = []
    for name, held in result["held"].items():
        for row in held:
            each, age = row["of_each_camera"], row["age_at_the_verdict_ms"]
            rows.append(
                [
                    name,
                    row["cameras"],
                    row["threads"],
                    f"{row['frames_per_s']:.1f}",
                    f"{each['least']:.1f} to {each['greatest']:.1f}",
                    f"{age['p50']:.0f} ms",
                    f"{age['p99']:.0f} ms",
                ]
            )
    head = [f"frames, {result['video_fps']} a second", "cameras", "threads"]
    head += ["judged a second, together", "of each camera", "age at the verdict, p50", "p99"]
    return f"{overhead}\n\n{table(head, rows)}"


def startup(result: dict[str, Any]) -> str:
    """Fresh processes to their first line."""
    head = ["fresh process", "to its first line, median (least to greatest)", "processor time"]
    rows = [
        [what, median_of(row["first_s"], "s", 2), f"{row['cpu_s']['median']:.2f} s"]
        for what, row in result["rows"].items()
    ]
    return table(head, rows)


def feature_time(result: dict[str, Any]) -> str:
    """Ways to extract features for training."""
    head = ["recipe", "views", "threads", "way", "a picture, median (least to greatest)"]
    rows = [
        [
            row["recipe"],
            row["views"],
            row["threads"],
            name,
            median_of(times, "ms", 1),
            f"{row['greatest_difference'][name]:.0e}",
            f"{row['reading_ms']:.1f} ms",
        ]
        for row in result["rows"]
        for name, times in row["ms_a_picture"].items()
    ]
    return table([*head, "difference", "reading it before"], rows)


def resizing(result: dict[str, Any]) -> str:
    """Ways to make a frame small."""
    ways = result["ways"]
    first = next(iter(ways.values()))
    sizes, trained = list(first["ms"]), list(first["auroc"])
    rows = [
        [
            name,
            *(milliseconds(way["ms"][size], 2) for size in sizes),
            *(mean_of(way["auroc"][size]) for size in trained),
            f"{way['scratch']['least']:.0%} to {way['scratch']['greatest']:.0%}",
        ]
        for name, way in ways.items()
    ]
    head = [f"{size}, one core" for size in sizes]
    head += [f"image AUROC at {size} px" for size in trained]
    return table(["way", *head, "a scratch arrives, worst to best place"], rows)


def threads(result: dict[str, Any]) -> str:
    """Latency and processor time by the number of threads, and how they wait."""
    head = ["frames a second", "threads", "latency, p50 (p5 to p95)"]
    rows = []
    for row in result["rows"]:
        cores = row["cores"]
        busy = f"{cores['median']:.2f} ({cores['min']:.2f} to {cores['max']:.2f})"
        fps = row["fps"] or "as fast as it goes"
        rows.append([fps, row["way"], milliseconds(row["latency_ms"]), busy])
    return table([*head, "cores busy (least to greatest)"], rows)


def peers(result: dict[str, Any]) -> str:
    """Every model that ran, the best AUROC first."""
    models = {name: row for name, row in result["models"].items() if "reason" not in row}
    threads = list(dict.fromkeys(t for row in models.values() for t in row.get("latency_ms", {})))
    rows = []
    for name in sorted(models, key=lambda name: -(models[name]["image_auroc"] or 0.0)):
        row = models[name]
        auroc, timed = row["image_auroc"], row.get("latency_ms", {})
        training = "" if auroc is None else f"{row['training_s']:.0f} s"
        if epochs := row["settings"].get("epochs"):
            training += f", {epochs} epochs"
        rows.append(
            [
                name,
                "no weights to be had" if auroc is None else f"{auroc:.3f}",
                *(milliseconds(timed[count]) if count in timed else "-" for count in threads),
                f"{row['file_mb']:.1f} MB",
                _or_dash(row.get("first_verdict_s"), ".2f", "s"),
                _or_dash(row.get("peak_memory_mib"), ".0f", "MiB"),
                training,
            ]
        )
    head = [f"latency, {count} thread{'s' * (count != '1')}" for count in threads]
    head += ["file", "first verdict", "peak memory", "training"]
    failed = {name: row["reason"] for name, row in result["models"].items() if "reason" in row}
    notes = ["", *(f"{name}: {reason}." for name, reason in failed.items())] if failed else []
    return "\n".join([table(["model", "image AUROC", *head], rows), *notes])


def _or_dash(value: float | None, form: str, unit: str) -> str:
    return "-" if value is None else f"{value:{form}} {unit}"


TABLES: dict[str, Callable[[dict[str, Any]], str]] = {
    "original": original,
    "limits": limits,
    "camera_loop": camera_loop,
    "startup": startup,
    "feature_time": feature_time,
    "resizing": resizing,
    "threads": threads,
    "peers": peers,
}
