"""One thread or two, waiting awake or asleep: latency, and what the processor does for it.

    python -m benchmarks.threads       (about 2 minutes; needs the default model)

ONNX Runtime's threads stay awake for a while after each frame ("spinning"). The default model at
several rates of frames, in turn; `cores` is processor time by time passed, of the whole process.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

from differnet_runtime.inspection.preprocess import golden_frames
from differnet_training.recipes import EDGE

from . import machine
from .default_model import default_model
from .models import contract_of
from .peers_once import session

WAYS = {
    "one thread": (1, True),
    "two threads, awake (the default)": (2, True),
    "two threads, asleep": (2, False),
}
RATES = (0, 30, 5)
ROUNDS, SECONDS, SETTLING = 3, 4.0, 20


def paced(model: Path, threads: int, *, awake: bool, fps: int) -> tuple[list[float], float]:
    """Runs frames at a rate, or as fast as it goes (0); returns milliseconds each, and cores."""
    frame = {"image": golden_frames(contract_of(EDGE), 1)}
    opened = session(str(model), threads, awake=awake)
    for _ in range(SETTLING):
        opened.run(None, frame)
    times: list[float] = []
    used, begun = time.process_time(), time.perf_counter()
    while (start := time.perf_counter()) < begun + SECONDS:
        opened.run(None, frame)
        times.append((time.perf_counter() - start) * 1e3)
        if fps:
            time.sleep(max(0.0, begun + len(times) / fps - time.perf_counter()))
    return times, (time.process_time() - used) / (time.perf_counter() - begun)


def main() -> None:
    """Measures and writes results/threads.json."""
    model = default_model()
    rows: list[dict[str, Any]] = []
    for fps in RATES:
        found: dict[str, list[tuple[list[float], float]]] = {name: [] for name in WAYS}
        for _ in range(ROUNDS):
            for name, (threads, awake) in WAYS.items():
                found[name].append(paced(model, threads, awake=awake, fps=fps))
        for name, rounds in found.items():
            p05, median, p95 = np.quantile(
                [ms for times, _ in rounds for ms in times], (0.05, 0.5, 0.95)
            )
            cores = sorted(used for _, used in rounds)
            rows.append(
                {
                    "fps": fps,
                    "way": name,
                    "latency_ms": {"median": median, "p05": p05, "p95": p95},
                    "cores": {"median": cores[ROUNDS // 2], "min": cores[0], "max": cores[-1]},
                }
            )
            print(rows[-1], flush=True)
    machine.write("threads", {"rounds": ROUNDS, "seconds": SECONDS, "rows": rows})


if __name__ == "__main__":
    main()
