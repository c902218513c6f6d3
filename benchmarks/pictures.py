"""The picture of AUROC over latency, drawn from results/peers.json.

python -m benchmarks.pictures
"""

from __future__ import annotations

import json
import math
from html import escape
from pathlib import Path
from typing import Any

from . import machine

FOLDER = Path(__file__).parent / "pictures"
OURS = ("edge", "edge-global")
_WIDTH, _HEIGHT, _LEFT, _TOP, _RIGHT, _BOTTOM = 760, 460, 70, 60, 40, 60


def peers_svg(result: dict[str, Any]) -> str:
    """Draws every model that has both figures; left and high is good.

    Args:
        result: Of results/peers.json; latencies of the first count of threads that it has.

    Raises:
        ValueError: If no model has both.
    """
    models = {
        name: row
        for name, row in result["models"].items()
        if row.get("image_auroc") is not None and "latency_ms" in row
    }
    if not models:
        raise ValueError("no model of the results has both an AUROC and a latency")
    threads = next(iter(next(iter(models.values()))["latency_ms"]))
    count = f"{threads} thread{'s' * (threads != '1')}"
    points = {
        name: (row["latency_ms"][threads]["median"], row["image_auroc"])
        for name, row in models.items()
    }
    low = math.floor(min(auroc for _, auroc in points.values()) * 20) / 20
    fast = 10 ** math.floor(math.log10(min(ms for ms, _ in points.values())))
    slow = 10 ** math.ceil(math.log10(max(ms for ms, _ in points.values()) * 1.05))

    def x(ms: float) -> float:
        share = math.log(ms / fast) / math.log(slow / fast)
        return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)

    def y(auroc: float) -> float:
        return _HEIGHT - _BOTTOM - (auroc - low) / (1.0 - low) * (_HEIGHT - _TOP - _BOTTOM)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
        'font-family="sans-serif" font-size="13" fill="#222">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#fff"/>',
        _text(20, 26, "Image AUROC over latency: the same cells, extractor and ONNX Runtime", 16),
        _text(20, 46, f"{count}, {result['machine']['processor']}; left and high is good"),
        _text(_WIDTH / 2 - 90, _HEIGHT - 14, "ms a picture (logarithmic)"),
    ]
    for step in range(round((1.0 - low) * 20) + 1):
        value = low + step / 20
        parts.append(_line(_LEFT, y(value), _WIDTH - _RIGHT, y(value)))
        parts.append(_text(_LEFT - 40, y(value) + 4, f"{value:.2f}"))
    for ms in _ticks(fast, slow):
        parts.append(_line(x(ms), _TOP, x(ms), _HEIGHT - _BOTTOM))
        parts.append(_text(x(ms) - 8, _HEIGHT - _BOTTOM + 18, f"{ms:g}"))
    labels: list[tuple[float, float]] = []
    for name, (ms, auroc) in sorted(points.items(), key=lambda point: -point[1][1]):
        colour = "#c0392b" if name in OURS else "#3b6ea5"
        parts.append(
            f'<circle cx="{x(ms):.1f}" cy="{y(auroc):.1f}" r="6" fill="{colour}">'
            f"<title>{name}: {ms:.1f} ms, {auroc:.3f}</title></circle>"
        )
        right, beside = x(ms) + 10, y(auroc) + 4
        while any(abs(right - a) < 90 and abs(beside - b) < 13 for a, b in labels):
            beside += 1
        labels.append((right, beside))
        parts.append(_text(right, beside, name))
    return "\n".join([*parts, "</svg>\n"])


def _ticks(fast: float, slow: float) -> list[float]:
    powers = range(round(math.log10(fast)), round(math.log10(slow)) + 1)
    every = [step * 10.0**power for power in powers for step in (1, 2, 5)]
    return [ms for ms in every if fast <= ms <= slow]


def _line(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<path d="M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}" stroke="#ddd"/>'


def _text(x: float, y: float, text: str, size: int = 13) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}">{escape(text)}</text>'


def write() -> None:
    """Draws what there are results for."""
    path = machine.RESULTS / "peers.json"
    if path.is_file():
        FOLDER.mkdir(exist_ok=True)
        (FOLDER / "peers.svg").write_text(peers_svg(json.loads(path.read_text())))


if __name__ == "__main__":
    write()
