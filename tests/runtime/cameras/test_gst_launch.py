"""The process that runs a pipeline: what it tells, and how it ends."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys

import pytest

from differnet_runtime.cameras import gst_launch
from tests.servers import require

LAST = "! videoconvert ! capsfilter name=differnet caps=video/x-raw,format=BGR ! fakesink"


def start(pipeline: str) -> subprocess.Popen[bytes]:
    require("gst-launch-1.0")  # comes with the library and its elements
    process = subprocess.Popen(
        [sys.executable, "-I", gst_launch.__file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert process.stdin
    process.stdin.write("\0".join(shlex.split(f"{pipeline} {LAST}")).encode())
    process.stdin.close()
    return process


def said(process: subprocess.Popen[bytes]) -> list[str]:
    assert process.stdout
    with process.stdout:
        lines = process.stdout.read().decode().splitlines()
    process.wait()
    return lines


def test_it_tells_what_the_pictures_are_and_ends_with_the_pipeline() -> None:
    process = start("videotestsrc num-buffers=3 ! video/x-raw,width=64,height=48")
    (line,) = said(process)
    assert line.startswith("caps = video/x-raw")
    assert {"width=(int)64", "height=(int)48", "format=(string)BGR"} <= set(line.split(", "))
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("pipeline", "says"),
    [
        ("nosuchelement", r'erroneous pipeline: no element "nosuchelement"'),
        ("videotestsrc nosuch=1", r"erroneous pipeline: no property \"nosuch\""),
        ("videotestsrc ! audioconvert", r"erroneous pipeline: could not link"),
        ("filesrc location=/nowhere/x.png ! pngdec", r"from element .*filesrc0: .*/nowhere/x\.png"),
    ],
)
def test_what_is_wrong_is_one_line(pipeline: str, says: str) -> None:
    process = start(pipeline)
    problems = [line for line in said(process) if line.startswith(gst_launch.ERROR)]
    assert len(problems) == 1
    assert re.search(says, problems[0])
    assert process.returncode == 1


def test_an_interrupt_ends_it_in_order() -> None:
    process = start("videotestsrc is-live=true ! video/x-raw,width=64,height=48")
    assert process.stdout
    assert process.stdout.readline().startswith(b"caps")
    os.kill(process.pid, signal.SIGINT)
    assert said(process) == []
    assert process.returncode == 130


def test_a_library_that_is_not_there_is_named_with_its_packages() -> None:
    code = (
        f"import runpy; module = runpy.run_path({gst_launch.__file__!r}, run_name='x'); "
        "main = module['main']; main.__globals__['LIBRARY'] = 'libnowhere.so.0'; "
        "raise SystemExit(main())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], input="x", capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stdout.count("\n") == 1
    assert re.match(
        r"ERROR: GStreamer can't be loaded \(libnowhere.*libgstreamer1\.0-0", done.stdout
    )
