"""`differnet bench`: latency and throughput of a model file on this machine, stage by stage."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from differnet_runtime.command import Command

from .arguments import count, whole_number

if TYPE_CHECKING:
    from differnet_runtime.benchmark.records import Row


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `differnet bench`."""
    parser.description = (
        "Measures every way in which this machine can run a model file, each in a process of its "
        "own: inference by batch, and a frame's way stage by stage. What can't run here is listed "
        "with its reason. Exit code 2: none could be measured."
    )
    parser.add_argument(
        "models", type=Path, nargs="+", metavar="FILE", help="exported files (FP32 and FP16, say)"
    )
    parser.add_argument(
        "--backend",
        dest="contenders",
        nargs="+",
        metavar="NAME",
        help="onnxruntime-cpu, onnxruntime-cuda, onnxruntime-tensorrt, tensorrt or "
        "tensorrt-without-cuda-graph (default: all)",
    )
    parser.add_argument(
        "--batch", type=count, nargs="+", default=[1], metavar="N", help="batches (default: 1)"
    )
    parser.add_argument(
        "--source", metavar="SOURCE", help="frames, as for `differnet run` (default: drawn ones)"
    )
    parser.add_argument(
        "--frame",
        type=frame_size,
        default=(1280, 720),
        metavar="WxH",
        help="size of drawn frames (default: 1280x720)",
    )
    parser.add_argument(
        "--runs", type=count, default=100, metavar="N", help="counted runs of a round (100)"
    )
    parser.add_argument("--rounds", type=count, default=3, metavar="N", help="rounds (3)")
    parser.add_argument(
        "--warm-up", type=whole_number, default=20, metavar="N", help="runs before each round (20)"
    )
    parser.add_argument(
        "--threads",
        type=whole_number,
        default=0,
        metavar="N",
        help="CPU threads; 0 leaves the choice to the backend",
    )
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    parser.add_argument("--svg", type=Path, metavar="FILE", help="write a picture")


def frame_size(text: str) -> tuple[int, int]:
    """Reads WxH in pixels."""
    numbers = text.lower().split("x")
    if len(numbers) != 2 or not all(n.isdecimal() and 8 <= int(n) <= 16384 for n in numbers):
        raise argparse.ArgumentTypeError(f"{text!r} is not WxH: two numbers from 8 to 16384")
    return int(numbers[0]), int(numbers[1])


def run(arguments: argparse.Namespace) -> int:
    """Runs `differnet bench`."""
    import json

    from differnet_runtime.benchmark.machine import describe, doubt
    from differnet_runtime.benchmark.picture import draw
    from differnet_runtime.benchmark.report import tables
    from differnet_runtime.errors import BackendUnavailableError
    from differnet_runtime.files import write_bytes

    machine = describe()
    warning = doubt(machine)
    if warning:
        print(f"bench: {warning}", file=sys.stderr)
    rows = _measured(arguments)
    if arguments.svg is not None:
        title = ", ".join(filter(None, (machine["board"], machine["gpu"], machine["processor"])))
        write_bytes(arguments.svg, draw(rows, title).encode())
    protocol = _protocol(arguments)
    if arguments.json:
        record = {"machine": machine, "doubt": warning, "protocol": protocol}
        print(json.dumps({**record, "rows": [row.record() for row in rows]}, indent=2))
    else:
        print(_text({**machine, **protocol}) + "\n\n" + tables(rows))
    if all(row.reason for row in rows):
        raise BackendUnavailableError("nothing could be measured; the reasons are above")
    return 0


def _measured(arguments: argparse.Namespace) -> list[Row]:
    from differnet_runtime.benchmark.contenders import CONTENDERS, known
    from differnet_runtime.benchmark.frames import FrameSource
    from differnet_runtime.benchmark.measuring import Trial, measure
    from differnet_runtime.benchmark.timing import Effort
    from differnet_runtime.errors import BackendUnavailableError

    contenders = arguments.contenders or CONTENDERS
    for name in contenders:
        if not known(name):
            raise BackendUnavailableError(
                f"there is no backend {name!r}; choose from {', '.join(CONTENDERS)}"
            )
    effort = Effort(arguments.warm_up, arguments.runs, arguments.rounds, tuple(arguments.batch))
    source = FrameSource(arguments.source, *arguments.frame)
    return [
        measure(Trial(path, name, source, effort, arguments.threads))
        for path in arguments.models
        for name in contenders
    ]


def _protocol(arguments: argparse.Namespace) -> dict[str, Any]:
    from differnet_runtime.benchmark.frames import FrameSource

    return {
        "frames": FrameSource(arguments.source, *arguments.frame).describe(),
        "runs": arguments.runs,
        "rounds": arguments.rounds,
        "warm_up": arguments.warm_up,
        "threads": arguments.threads or "the backend's choice",
    }


def _text(facts: dict[str, Any]) -> str:
    shown = {name.replace("_", " "): value for name, value in facts.items() if value is not None}
    width = max(map(len, shown))
    return "\n".join(f"{name:<{width}}  {value}" for name, value in shown.items())


COMMAND = Command(
    "bench",
    "measure latency and throughput on this machine",
    configure,
    run,
    extra="opencv-headless",
    modules=("cv2",),
)
