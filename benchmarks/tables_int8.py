"""The tables of INT8."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from .markdown import table


def int8(result: dict[str, Any]) -> str:
    """What INT8 does to the scores, beside FP32 and FP16."""
    head = ["set", "pictures, defective", "file", "image AUROC", "misses at 5 %", "flips"]
    head += ["file's size", "multiplications in INT8"]
    rows = []
    for name, row in result["sets"].items():
        for precision, found in row["precisions"].items():
            if "refused" in found:
                rows.append([name, row["pictures"], f"{precision}: export refuses", *[""] * 5])
                continue
            auroc, effect = found["image_auroc"], found["int8"]
            rows.append(
                [
                    name,
                    f"{row['pictures']}, {found['defect']}",
                    precision,
                    f"{auroc['value']:.4f} ({auroc['low']:.3f} to {auroc['high']:.3f})",
                    found["misses_at_5_percent"],
                    found["verdict_flips"],
                    f"{found['file_mb']:.1f} MB",
                    "" if effect is None else f"{effect['share']:.0%}",
                ]
            )
    return table(head, rows)


def int8_engines(result: dict[str, Any]) -> str:
    """What TensorRT-RTX makes of FP16 and INT8, and the memory's floors of devices."""
    devices = list(next(iter(next(iter(result["files"].values())).values()))["memory_ms"])
    head = ["file", "for", "kernels", "convolutions that read INT8", "plan", "moved", "audit"]
    rows = []
    for name, targets in result["files"].items():
        for target, found in targets.items():
            outcomes = Counter(found["audit"].values())
            rows.append(
                [
                    name,
                    target,
                    found["kernels"],
                    found["int8_kernels"],
                    f"{found['plan_mb']:.1f} MB",
                    f"{found['activations_mb']:.1f} MB",
                    ", ".join(f"{count} {outcome}" for outcome, count in outcomes.items()),
                    *(f"{found['memory_ms'][device]:.2f} ms" for device in devices),
                ]
            )
    return table([*head, *(f"{name}, memory" for name in devices)], rows)


TABLES: dict[str, Callable[[dict[str, Any]], str]] = {
    "int8": int8,
    "int8_engines": int8_engines,
}
