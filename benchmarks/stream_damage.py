"""How much damage of streams and videos is seen, and how much of what is whole is judged.

    python -m benchmarks.stream_damage [KIND ...]       (about five minutes)

Each kind of damage is done at random places of a stream whose pictures carry their numbers. A
picture that is handed out is compared with the same one of the undamaged stream: one pixel that
differs is a damaged frame judged. Those that are whole and refer to no damaged one ought to be
handed out. With parts of names (`mjpeg`, `"RTSP/UDP, h264"`) only these are run anew.
"""

from __future__ import annotations

import ctypes
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any

import av
import cv2

from . import machine
from .stream_kinds import GOP, Coded, Jpegs, Way

RESULT = machine.RESULTS / "stream_damage.json"
AT_ONCE = 3
"""Most of them wait for a stream that comes at its own speed."""


def every(folder: Path, wanted: list[str]) -> Iterator[tuple[str, Way]]:
    """Yields what is run; all of it, or what names one of the words."""
    for name in ("h264", "h265", "mjpeg"):
        if wanted and not any(name in word for word in wanted):
            continue
        made = Jpegs(folder) if name == "mjpeg" else Coded(name, folder)
        for way, run in made.ways().items():
            if not wanted or any(word in way for word in wanted):
                yield way, run


def timed(name: str, run: Way) -> dict[str, Any]:
    """Runs one kind, and tells its figures."""
    begun = time.monotonic()
    seen, result = run()
    print(f"{name}: {result} {time.monotonic() - begun:.1f} s", flush=True)
    if seen.wrong:
        print(f"   judged: {seen.wrong[:20]}; refused: {seen.reasons}", flush=True)
    return result


def _libde265() -> str | None:
    try:
        told = ctypes.CDLL("libde265.so.0").de265_get_version
    except OSError:
        return None
    told.restype = ctypes.c_char_p
    return str(told().decode())


def main() -> None:
    """Measures and writes results/stream_damage.json."""
    cv2.setNumThreads(1)
    wanted = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(AT_ONCE) as pool:
        runs = {name: pool.submit(timed, name, run) for name, run in every(Path(folder), wanted)}
        results = {name: run.result() for name, run in runs.items()}
    if wanted and RESULT.exists():
        results = {**json.loads(RESULT.read_text())["streams"], **results}
    if results:
        versions = {"av": version("av"), "libde265": _libde265(), **av.library_versions}
        how = {"picture": "320x240", "gop": GOP, "slices": 4, "av": versions}
        machine.write("stream_damage", {**how, "streams": results})


if __name__ == "__main__":
    main()
