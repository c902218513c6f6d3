"""The tables of benchmarks/README.md: speed, limits, start, the station's loop, the peers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .roofline import PARTS


def original(result: dict[str, Any]) -> str:
    """A frame's score, beside the original's procedure."""
    auroc = result["image_auroc_mono"]
    lines = [
        "| pair | threads | the original's procedure, p50 (p5 to p95) | this runtime | ratio "
        "(least to greatest of the rounds) | image AUROC, mono |",
        "|---|---|---|---|---|---|",
    ]
    for row in result["rows"]:
        around = row["ratio_of_rounds"]
        lines.append(
            f"| {row['pair']} | {row['threads']} | {_ms(row['ms']['original'])} | "
            f"{_ms(row['ms']['ours'])} | {_times(row['ratio'])} ({_times(around['least'])} to "
            f"{_times(around['greatest'])}) | {_pair_auroc(row['pair'], auroc)} |"
        )
    return "\n".join(lines)


def _times(ratio: float) -> str:
    return f"{ratio:.0f}" if ratio >= 10 else f"{ratio:.1f}"


def _pair_auroc(pair: str, auroc: dict[str, float]) -> str:
    if pair.startswith("edge"):
        return f"`edge` {auroc['edge']:.3f}, the original's own unknown"
    return f"{auroc['paper-lite']:.3f}, this side" if pair.startswith("paper") else "none"


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
    return "\n".join(
        [
            "| on two CPU cores | this | the original's procedure |",
            "|---|---|---|",
            f"| a frame's score, one thread | {frame['ms']['ours']['median']:.1f} ms | "
            f"{frame['ms']['original']['median']:.0f} ms |",
            f"| {training['pictures']} pictures to a saved model | {learnt:.0f} s | "
            f"{procedure['extrapolated_s'] / 3600:.1f} h, extrapolated from "
            f"{procedure['timed_epochs']} epochs{of_batches} |",
            "| all of a 720p frame but decoding and inference | "
            f"{loop['overhead']['720p']['overhead_ms']['p50']:.1f} ms | |",
            f"| from `differnet run` to the first verdict | {first:.1f} s | |",
        ]
    )


def limits(result: dict[str, Any]) -> str:
    """Each graph's latency beside its floor, by part."""
    lines = [
        "| graph | threads | greatest product, GFLOP/s | "
        + " | ".join(f"{part}: floor, profiled" for part in PARTS)
        + " | floor | latency, p50 (p5 to p95) | latency over floor |",
        "|---|---|---|" + "---|" * len(PARTS) + "---|---|---|",
    ]
    for name, graph in result["graphs"].items():
        for row in graph["rows"]:
            parts = " | ".join(
                f"{row['floor_ms'][part]:.2f}, {row['profiled_ms'][part]:.2f} ms" for part in PARTS
            )
            peak = max(row["peak_gflop_s"], key=row["peak_gflop_s"].get)
            lines.append(
                f"| {name} | {row['threads']} | {row['peak_gflop_s'][peak]:.0f} ({peak}) | {parts} "
                f"| {row['floor_ms']['all']:.2f} ms | {_ms(row['ms'])} | {row['over_floor']:.2f} |"
            )
    return "\n".join([*lines, "", *_devices(result)])


def _devices(result: dict[str, Any]) -> list[str]:
    names = list(result["graphs"])
    rows = result["graphs"][names[0]]["devices"]
    sizes = ", ".join(
        f"{name} {graph['rows'][0]['constants_mb'] / 2:.1f} MB"
        for name, graph in result["graphs"].items()
    )
    return [
        f"Computed, not measured: FP16, every weight read once ({sizes}), every cache trusted.",
        "",
        "| device | dense FP16, TFLOPS | GB/s | from | "
        + " | ".join(f"floor of {name}, computed" for name in names)
        + " |",
        "|---|---|---|---|" + "---|" * len(names),
        *(
            f"| {device} | {about['fp16_tflops']:.3g} | {about['gb_s']:.0f} | {about['source']} | "
            + " | ".join(
                f"{result['graphs'][name]['devices'][device]['floor_ms']:.2g} ms" for name in names
            )
            + " |"
            for device, about in rows.items()
        ),
    ]


def camera_loop(result: dict[str, Any]) -> str:
    """What the station's own code takes, and how many cameras it holds."""
    stages = list(next(iter(result["overhead"].values()))["stages_ms"])
    lines = [
        "| frames | p50 (of all runs) | p95 | p99 | max | processor time | "
        + " | ".join(stages)
        + " |",
        "|---|---|---|---|---|---|" + "---|" * len(stages),
    ]
    for name, found in result["overhead"].items():
        runs = found["p50_of_runs_ms"]
        times = f"{found['overhead_ms']['p50']:.2f} ms "
        times += f"({runs['least']:.2f} to {runs['greatest']:.2f}) | "
        times += " | ".join(f"{found['overhead_ms'][q]:.2f} ms" for q in ("p95", "p99", "max"))
        parts = " | ".join(f"{found['stages_ms'][stage]:.2f} ms" for stage in stages)
        lines.append(f"| {name} | {times} | {found['cpu_ms_a_frame']:.2f} ms | {parts} |")
    lines += [
        "",
        f"| frames, {result['video_fps']} a second | cameras | threads | judged a second, together "
        "| of each camera | age at the verdict, p50 | p99 |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, rows in result["held"].items():
        for row in rows:
            each, age = row["of_each_camera"], row["age_at_the_verdict_ms"]
            lines.append(
                f"| {name} | {row['cameras']} | {row['threads']} | {row['frames_per_s']:.1f} | "
                f"{each['least']:.1f} to {each['greatest']:.1f} | {age['p50']:.0f} ms | "
                f"{age['p99']:.0f} ms |"
            )
    return "\n".join(lines)


def startup(result: dict[str, Any]) -> str:
    """Fresh processes to their first line."""
    lines = [
        "| fresh process | to its first line, median (least to greatest) | processor time |",
        "|---|---|---|",
    ]
    for what, row in result["rows"].items():
        first, cpu = row["first_s"], row["cpu_s"]
        lines.append(
            f"| {what} | {first['median']:.2f} s ({first['min']:.2f} to {first['max']:.2f}) | "
            f"{cpu['median']:.2f} s |"
        )
    return "\n".join(lines)


def feature_time(result: dict[str, Any]) -> str:
    """Ways to extract features for training."""
    lines = [
        "| recipe | views | threads | way | a picture, median (least to greatest) | difference | "
        "reading it before |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in result["rows"]:
        for name, times in row["ms_a_picture"].items():
            lines.append(
                f"| {row['recipe']} | {row['views']} | {row['threads']} | {name} | "
                f"{times['median']:.1f} ms ({times['min']:.1f} to {times['max']:.1f}) | "
                f"{row['greatest_difference'][name]:.0e} | {row['reading_ms']:.1f} ms |"
            )
    return "\n".join(lines)


def resizing(result: dict[str, Any]) -> str:
    """Ways to make a frame small."""
    ways = result["ways"]
    first = next(iter(ways.values()))
    sizes, trained = list(first["ms"]), list(first["auroc"])
    lines = [
        "| way | "
        + " | ".join(f"{size}, one core" for size in sizes)
        + " | "
        + " | ".join(f"image AUROC at {size} px" for size in trained)
        + " | a scratch arrives, worst to best place |",
        "|---|" + "---|" * (len(sizes) + len(trained) + 1),
    ]
    for name, way in ways.items():
        times = " | ".join(_ms(way["ms"][size], 2) for size in sizes)
        found = " | ".join(_mean(way["auroc"][size]) for size in trained)
        least, greatest = way["scratch"]["least"], way["scratch"]["greatest"]
        lines.append(f"| {name} | {times} | {found} | {least:.0%} to {greatest:.0%} |")
    return "\n".join(lines)


def threads(result: dict[str, Any]) -> str:
    """Latency and processor time by the number of threads, and how they wait."""
    lines = [
        "| frames a second | threads | latency, p50 (p5 to p95) | cores busy (least to greatest) |",
        "|---|---|---|---|",
    ]
    for row in result["rows"]:
        cores = row["cores"]
        lines.append(
            f"| {row['fps'] or 'as fast as it goes'} | {row['way']} | {_ms(row['latency_ms'])} | "
            f"{cores['median']:.2f} ({cores['min']:.2f} to {cores['max']:.2f}) |"
        )
    return "\n".join(lines)


def peers(result: dict[str, Any]) -> str:
    """Every model that ran, the best AUROC first."""
    models = {name: row for name, row in result["models"].items() if "reason" not in row}
    threads = list(dict.fromkeys(t for row in models.values() for t in row.get("latency_ms", {})))
    lines = [
        "| model | image AUROC | "
        + "".join(f"latency, {count} thread{'s' * (count != '1')} | " for count in threads)
        + "file | first verdict | peak memory | training |",
        "|---|---|" + "---|" * len(threads) + "---|---|---|---|",
    ]
    order = sorted(models, key=lambda name: -(models[name]["image_auroc"] or 0.0))
    for name in order:
        row = models[name]
        auroc = row["image_auroc"]
        timed = row.get("latency_ms", {})
        times = " | ".join(_ms(timed[count]) if count in timed else "-" for count in threads)
        first, peak = row.get("first_verdict_s"), row.get("peak_memory_mib")
        epochs = row["settings"].get("epochs")
        lines.append(
            f"| {name} | {'no weights to be had' if auroc is None else f'{auroc:.3f}'} | "
            + (f"{times} | " if threads else "")
            + f"{row['file_mb']:.1f} MB | {_or_dash(first, '.2f', 's')} | "
            f"{_or_dash(peak, '.0f', 'MiB')} | "
            + ("" if auroc is None else f"{row['training_s']:.0f} s")
            + (f", {epochs} epochs |" if epochs else " |")
        )
    failed = {name: row["reason"] for name, row in result["models"].items() if "reason" in row}
    lines += ["", *(f"{name}: {reason}." for name, reason in failed.items())] if failed else []
    return "\n".join(lines)


def _or_dash(value: float | None, form: str, unit: str) -> str:
    return "-" if value is None else f"{value:{form}} {unit}"


def _mean(figure: dict[str, float]) -> str:
    return f"{figure['mean']:.4f} ± {figure['standard_deviation']:.4f}"


def _ms(figure: dict[str, float], digits: int = 1) -> str:
    digits = 0 if figure["median"] >= 100 else digits
    return (
        f"{figure['median']:.{digits}f} ms ({figure['p05']:.{digits}f} to "
        f"{figure['p95']:.{digits}f})"
    )


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
