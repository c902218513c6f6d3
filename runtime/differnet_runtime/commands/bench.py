"""`differnet bench`: latency and throughput of a model file on this machine, stage by stage.

Imported on every start of `differnet`, so what measures is imported when the command runs.
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from ..command import Command, print_result
from ..text import table
from .arguments import (
    DEVICES,
    WholeNumber,
    add_json,
    add_threads,
    any_path,
    completed,
    refused,
    source,
)

if TYPE_CHECKING:
    from ..benchmark.measuring import FrameSource


_TO_A_MILLION = WholeNumber(1, 1_000_000)


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `differnet bench`."""
    parser.description = (
        "Measures every way in which this machine can run a model file, each part in a process of "
        "its own: inference by batch, and a frame's way stage by stage. What can't run here is "
        "listed with its reason. Exit code 2: none could be measured."
    )
    parser.add_argument(
        "models",
        type=any_path,
        nargs="+",
        metavar="FILE",
        help="exported files (FP32 and FP16, say)",
    )
    chosen = parser.add_mutually_exclusive_group()
    chosen.add_argument(
        "--device",
        choices=DEVICES,
        default="auto",
        help="measure what runs on it: auto (default: everything), gpu or cpu",
    )
    named = chosen.add_argument(
        "--backend",
        dest="contenders",
        type=_contender,
        nargs="+",
        metavar="NAME",
        help="onnxruntime-cpu, onnxruntime-cuda, onnxruntime-tensorrt, tensorrt, "
        "tensorrt-without-cuda-graph or tensorrt-without-zero-copy",
    )
    completed(named, _contenders)
    parser.add_argument(
        "--batch",
        type=_TO_A_MILLION,
        nargs="+",
        default=[1],
        metavar="N",
        help="batches (default: 1)",
    )
    parser.add_argument(
        "--source",
        type=source,
        metavar="SOURCE",
        help="frames, as for `differnet run` (default: drawn ones)",
    )
    parser.add_argument(
        "--frame",
        type=frame_size,
        metavar="WxH",
        help="size of drawn frames (default: 1280x720, or what the models' regions need)",
    )
    parser.add_argument(
        "--runs",
        type=_TO_A_MILLION,
        default=100,
        metavar="N",
        help="counted runs of a round (100)",
    )
    parser.add_argument("--rounds", type=_TO_A_MILLION, default=3, metavar="N", help="rounds (3)")
    parser.add_argument(
        "--warm-up",
        type=WholeNumber(0, 1_000_000),
        default=20,
        metavar="N",
        help="runs before each round (20)",
    )
    add_threads(parser)
    add_json(parser)


def _contenders() -> tuple[str, ...]:
    from ..benchmark.measuring import CONTENDERS

    return CONTENDERS


def _contender(name: str) -> str:
    """Reads the name of a backend that can be measured, or of a variant of one."""
    from ..benchmark.measuring import known
    from ..text import instead

    if not known(name):
        raise refused(name, f"a backend; {instead(name, _contenders())}")
    return name


def frame_size(text: str) -> tuple[int, int]:
    """Reads WxH in pixels."""
    try:
        width, height = (WholeNumber(8, 16384)(number) for number in text.lower().split("x"))
    except (ValueError, argparse.ArgumentTypeError) as error:
        raise refused(text, "WxH: two whole numbers from 8 to 16384") from error
    return width, height


def run(arguments: argparse.Namespace) -> int:
    """Runs `differnet bench`."""
    from ..benchmark.measuring import ON_DEVICE, BenchmarkTrial, Effort, measure
    from ..benchmark.report import describe, doubt, tables
    from ..errors import BackendUnavailableError

    machine = describe()
    if warning := doubt(machine):
        print(f"bench: {warning}", file=sys.stderr)
    source = _source(arguments)
    effort = Effort(arguments.warm_up, arguments.runs, arguments.rounds, tuple(arguments.batch))
    rows = [
        measure(BenchmarkTrial(path, name, source, effort, arguments.threads))
        for path in arguments.models
        for name in arguments.contenders or ON_DEVICE[arguments.device]
    ]
    protocol = {
        "frames": source.describe(),
        "publish": "a line of JSON, written to /dev/null",
        "runs": arguments.runs,
        "rounds": arguments.rounds,
        "warm_up": arguments.warm_up,
        "threads": arguments.threads or "the backend's choice",
    }
    facts = {**machine, **protocol}.items()
    shown = table([(name.replace("_", " "), str(x)) for name, x in facts if x is not None])
    print_result(
        {
            "machine": machine,
            "doubt": warning,
            "protocol": protocol,
            "rows": [row.record() for row in rows],
        },
        f"{shown}\n\n{tables(rows)}",
        as_json=arguments.json,
    )
    if all(row.reason for row in rows):
        raise BackendUnavailableError("nothing could be measured; the reasons are above")
    return 0


def _source(arguments: argparse.Namespace) -> FrameSource:
    """Reads all models and opens the source, so that a wrong one is refused before measuring.

    Raises:
        ModelFileError: A model can't be used.
        CameraError: The source can't be opened.
        FrameError: `--frame` is too small for a model's region.
    """
    from ..benchmark.measuring import FrameSource
    from ..errors import FrameError
    from ..model_file.file import read_model_file

    size = (1280, 720) if arguments.frame is None else arguments.frame
    for path in arguments.models:
        region = read_model_file(path)[1].input.region
        if region is None or arguments.source is not None:
            continue
        needed = region.x + region.width, region.y + region.height
        grown = max(size[0], needed[0]), max(size[1], needed[1])
        if arguments.frame is not None and grown != size:
            raise FrameError(
                f"{path}: the model's region of interest {region} (x,y,width,height) does not lie "
                f"inside drawn frames of {size[0]} x {size[1]} pixels. Leave --frame out, or give "
                f"--frame {grown[0]}x{grown[1]}."
            )
        size = grown
    source = FrameSource(arguments.source, *size)
    source.check()
    return source


COMMAND = Command(
    "bench",
    "measure latency and throughput on this machine",
    configure,
    run,
    extra="opencv-headless",
    modules=("cv2",),
)
