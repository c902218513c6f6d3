"""The tables of INT8."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any


def int8(result: dict[str, Any]) -> str:
    """What INT8 does to the scores, beside FP32 and FP16."""
    lines = [
        "| set | pictures, defective | file | image AUROC | misses at 5 % | flips | file's size | "
        "multiplications in INT8 |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, row in result["sets"].items():
        for precision, found in row["precisions"].items():
            if "refused" in found:
                lines.append(
                    f"| {name} | {row['pictures']} | {precision}: export refuses | | | | | |"
                )
                continue
            auroc = found["image_auroc"]
            effect = found["int8"]
            share = "" if effect is None else f"{effect['share']:.0%}"
            lines.append(
                f"| {name} | {row['pictures']}, {found['defect']} | {precision} | "
                f"{auroc['value']:.4f} ({auroc['low']:.3f} to {auroc['high']:.3f}) | "
                f"{found['misses_at_5_percent']} | {found['verdict_flips']} | "
                f"{found['file_mb']:.1f} MB | {share} |"
            )
    return "\n".join(lines)


def int8_engines(result: dict[str, Any]) -> str:
    """What TensorRT-RTX makes of FP16 and INT8, and the memory's floors of devices."""
    devices = list(next(iter(next(iter(result["files"].values())).values()))["memory_ms"])
    lines = [
        "| file | for | kernels | convolutions that read INT8 | plan | moved | audit | "
        + "".join(f"{name}, memory | " for name in devices),
        "|---|---|---|---|---|---|---|" + "---|" * len(devices),
    ]
    for name, targets in result["files"].items():
        for target, found in targets.items():
            outcomes = Counter(found["audit"].values())
            audit = ", ".join(f"{count} {outcome}" for outcome, count in outcomes.items())
            floors = "".join(f"{found['memory_ms'][device]:.2f} ms | " for device in devices)
            lines.append(
                f"| {name} | {target} | {found['kernels']} | {found['int8_kernels']} | "
                f"{found['plan_mb']:.1f} MB | {found['activations_mb']:.1f} MB | {audit} | {floors}"
            )
    return "\n".join(line.rstrip() for line in lines)


TABLES: dict[str, Callable[[dict[str, Any]], str]] = {
    "int8": int8,
    "int8_engines": int8_engines,
}
