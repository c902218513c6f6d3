"""Runs every benchmark, one after the other: `make bench`."""

from __future__ import annotations

import subprocess
import sys

RUNS = (
    ("accuracy", "--choose"),
    ("accuracy", "--choose-global"),
    ("accuracy",),
    ("accuracy", "--wide"),
    ("accuracy", "--few"),
    ("peers", "--auroc"),
    ("peers", "--localization"),
    ("graph_cost",),
    ("many_pictures", "300"),
    ("many_pictures", "10000", "--epochs", "1"),
    ("calibration",),
    ("training_time",),
    ("precision",),
    ("precision", "--full"),
    ("flow_cost",),
    ("flow_cost", "--auroc"),
    ("limits",),
    ("original",),
    ("peers_speed",),
    ("camera_loop",),
    ("batching",),
    ("startup",),
    ("feature_time",),
    ("resizing",),
    ("picture_damage",),
    ("stream_damage",),
    ("threads",),
    ("tables",),
)

for name, *arguments in RUNS:
    print(f"== {name} {' '.join(arguments)}", flush=True)
    subprocess.run([sys.executable, "-m", f"benchmarks.{name}", *arguments], check=True)
