"""Which files one frame's way and one picture's way cross: counted by tracing them.

    python -m benchmarks.ways

A frame: an RTSP camera with 25 frames/s, a station with a stand-in engine, an MQTT broker as its
only sink, and no page open, until 50 verdicts have arrived. A picture: `train` and `export` on 40
drawn parts, from the first picture to the ONNX file. Child processes count. A file is on the way if
one of its functions is called at least once for each frame or picture; `in_all` are those of which
any function was called. Only the three packages' own functions count, not what runs while modules
are imported.
"""

from __future__ import annotations

import argparse
import ast
import os
import subprocess
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from tests.broker import Broker, listening
from tests.drawn import write_parts
from tests.fakes.clips import Clip
from tests.fakes.rtsp import rtsp_camera
from tests.fakes.running import DIFFERNET, RunningStation

from . import machine

ROOT = Path(__file__).parents[1]
Calls = Counter[tuple[str, str, int]]
"""By file, name and first line of a function."""
FPS = 25
VERDICTS = 50
PICTURES = 40
TRACER = """
import atexit, os, sys, threading, time
SEEN, OUT = {}, os.environ["WAYS_OUT"]
def hook(frame, event, argument):
    if event == "call" and ON[0]:
        code, file = frame.f_code, frame.f_code.co_filename
        if code.co_name[0] != "<" and "differnet_" in file and file[-3:] == ".py":
            key = (file, code.co_name, code.co_firstlineno)
            SEEN[key] = SEEN.get(key, 0) + 1
def write():
    with open(f"{OUT}/{os.getpid()}", "w") as file:
        file.writelines("\\t".join(map(str, (*key, SEEN[key]))) + "\\n" for key in sorted(SEEN))
def watch():
    while True:
        was, ON[0] = ON[0], os.path.exists(f"{OUT}/on")
        if was and not ON[0]:
            write()
        time.sleep(0.02)
ON = [os.path.exists(f"{OUT}/on")]
threading.Thread(target=watch, daemon=True).start()
threading.setprofile(hook)
sys.setprofile(hook)
atexit.register(lambda: ON[0] and write())
"""


class Tracing:
    """Records the functions that processes with `environment` call while it is on.

    Args:
        folder: For the tracer and what it finds.
    """

    def __init__(self, folder: Path) -> None:
        self._found = folder / "found"
        self._found.mkdir()
        (folder / "sitecustomize.py").write_text(TRACER)
        path = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])
        self.environment = {"PYTHONPATH": path, "WAYS_OUT": str(self._found)}

    def on(self) -> None:
        """Starts to record."""
        (self._found / "on").touch()

    def off(self) -> None:
        """Stops; each process then writes what it called."""
        (self._found / "on").unlink()
        time.sleep(1.0)

    def functions(self) -> Calls:
        """Returns how often each function was called, by file, name and first line."""
        found: Calls = Counter()
        for written in self._found.iterdir():
            for line in written.read_text().splitlines():
                file, name, first, calls = line.split("\t")
                found[file, name, int(first)] += int(calls)
        return found


def frames_way(folder: Path) -> Calls:
    """Returns the functions that run between an RTSP camera and an MQTT broker."""
    tracing = Tracing(folder)
    with (
        rtsp_camera(Clip(fps=FPS)) as camera,
        Broker(folder / "broker") as broker,
        listening(broker.port) as listener,
    ):
        tables = (
            f'[camera.top]\nsource = "{camera.url}"\n'
            f'[mqtt]\nhost = "127.0.0.1"\nport = {broker.port}\n'
        )
        environment = tracing.environment
        with RunningStation(folder, tables, environment=environment, events=False) as station:
            station.wait(
                lambda: any(b'"GOOD"' in text for _, text, _ in listener.messages),
                what="a good part's verdict by MQTT",
            )
            tracing.on()
            begun = len(listener.messages)
            station.wait(lambda: len(listener.messages) > begun + VERDICTS, what="verdicts by MQTT")
            tracing.off()
    return tracing.functions()


def pictures_way(folder: Path) -> Calls:
    """Returns the functions that run between a folder of pictures and an ONNX file."""
    tracing = Tracing(folder)
    write_parts(folder / "part" / "good", PICTURES)
    environment = {**os.environ, **tracing.environment}
    tracing.on()
    for command in (
        [
            "train",
            "--data",
            folder / "part",
            "--output",
            folder / "model",
            "--cache",
            folder / "cache",
        ],
        ["export", folder / "model", "--output", folder / "part.onnx"],
    ):
        subprocess.run([DIFFERNET, *map(str, command)], env=environment, check=True)
    return tracing.functions()


def counted(calls: Calls, least: int) -> dict[str, Any]:
    """Returns how many files, their lines, the lines of the functions, and the files.

    Args:
        calls: Number of calls of each function, by file, name and first line.
        least: Calls of a function that is on the way, give or take what was under way at the ends.
    """
    starts: dict[str, set[int]] = {}
    for (file, _, first), count in calls.items():
        if count >= 0.8 * least:
            starts.setdefault(file, set()).add(first)
    files, inside = {}, 0
    for name in sorted(starts):
        text = Path(name).read_text()
        inside += sum(
            (node.end_lineno or node.lineno) - node.lineno + 1
            for node in ast.walk(ast.parse(text))
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
            and min([node.lineno, *(one.lineno for one in node.decorator_list)]) in starts[name]
        )
        relative = Path(name).relative_to(ROOT).parts[1:]
        files["/".join(relative)] = len(text.splitlines())
    return {
        "files": len(files),
        "lines_of_files": sum(files.values()),
        "lines_of_functions": inside,
        "names": list(files),
        "in_all": len({file for file, _, _ in calls}),
    }


def product() -> dict[str, int]:
    """Returns files, statements (docstrings not counted) and longest file of the three packages."""
    sources = [
        path.read_text()
        for package in ("training", "export", "runtime")
        for path in sorted((ROOT / package).rglob("*.py"))
    ]
    statements = sum(
        isinstance(node, ast.stmt) and not _is_text(node)
        for text in sources
        for node in ast.walk(ast.parse(text))
    )
    lengths = sorted(len(text.splitlines()) for text in sources)
    return {
        "files": len(sources),
        "statements": statements,
        "median_lines": lengths[len(lengths) // 2],
        "longest": lengths[-1],
    }


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def main() -> None:
    """Traces both ways; writes results/ways.json."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.parse_args()
    result: dict[str, Any] = {"product": product()}
    ways = (("frame", frames_way, VERDICTS), ("picture", pictures_way, PICTURES))
    for name, way, least in ways:
        with tempfile.TemporaryDirectory() as folder:
            result[name] = found = counted(way(Path(folder)), least)
        print(
            f"{name}: {found['files']} files of {found['in_all']}, {found['lines_of_files']} lines"
        )
    machine.write("ways", result)


if __name__ == "__main__":
    main()
