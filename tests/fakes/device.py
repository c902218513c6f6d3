"""`differnet engine` on the fake device: the real command in a process of its own."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from differnet_runtime.inspection.preprocess import golden_frames
from differnet_runtime.model_file.contract import InputContract
from differnet_runtime.model_file.metadata import Verification

from .cuda import build

COMMAND = "import sys; from differnet_runtime.cli import main; sys.exit(main())"
TIMEOUT_S = 120.0


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    output: str
    errors: str

    @property
    def report(self) -> dict[str, Any]:
        """What `--json` printed."""
        assert self.code == 0, self.errors
        return dict(json.loads(self.output))


class Running:
    """`differnet engine` at work, held at a moment of its build."""

    def __init__(self, process: subprocess.Popen[str], pause: Path) -> None:
        self.process, self._pause = process, pause

    def wait_until_paused(self) -> int:
        """Waits for the moment, and returns the builder's process id."""
        deadline = time.monotonic() + TIMEOUT_S
        while time.monotonic() < deadline:
            text = self._pause.read_text() if self._pause.exists() else ""
            if text:
                return int(text)
            assert self.process.poll() is None, self.end()
            time.sleep(0.02)
        raise AssertionError("the build never came to its pause")

    def resume(self) -> None:
        self._pause.unlink()

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def end(self) -> Ended:
        output, errors = self.process.communicate(timeout=TIMEOUT_S)
        return Ended(self.process.returncode, output, errors)


class FakeDevice:
    """A machine with the host-memory driver and the small `tensorrt`."""

    def __init__(self, cuda: build.HostCuda, folder: Path) -> None:
        self._cuda, self._folder = cuda, folder

    def engine(self, model: Path, *options: str, **env: str) -> Ended:
        """Runs `differnet engine --json`."""
        return self.start(model, *options, **env).end()

    def start(self, model: Path, *options: str, **env: str) -> Running:
        """Starts `differnet engine --json`."""
        arguments = ("engine", str(model), "--json", *options)
        return self._running([sys.executable, "-c", COMMAND, *arguments], env)

    def command(self, *arguments: str, **env: str) -> Ended:
        """Runs `differnet` with these arguments."""
        return self._running([sys.executable, "-c", COMMAND, *arguments], env).end()

    def paused(self, moment: str, model: Path, *options: str, **env: str) -> Running:
        """Starts it, to be held at a moment of the build."""
        pause = self._folder / "pause"
        pause.unlink(missing_ok=True)
        places = {"FAKETRT_PAUSE": moment, "FAKETRT_PAUSE_FILE": str(pause)}
        return self.start(model, *options, **env, **places)

    def python(self, code: str, *arguments: str, **env: str) -> Ended:
        """Runs a program there."""
        return self._running([sys.executable, "-c", code, *arguments], env).end()

    def _running(self, command: list[str], env: dict[str, str]) -> Running:
        process = subprocess.Popen(
            command,
            env=self._cuda.environment(**{"OMP_NUM_THREADS": "1", **env}),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        return Running(process, self._folder / "pause")


def fake_device(folder: Path) -> FakeDevice:
    """Returns the device; skips the test, with the reason, where it can't be built."""
    if reason := build.missing():
        pytest.skip(reason)
    return FakeDevice(build.build(), folder)


def brightness_verification(contract: InputContract, error: float = 0.0) -> Verification:
    """The golden scores of `brightness_graph`, off by this relative error."""
    frames = golden_frames(contract)
    scores = frames.reshape(len(frames), -1).mean(axis=1) * (1.0 + error)
    return Verification(
        frames=len(frames),
        greatest_relative_difference=0.0,
        golden_scores=tuple(scores.tolist()),
    )


def is_alive(process: int) -> bool:
    """Whether a process runs; one that only waits to be collected does not."""
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def wait_for_end(process: int) -> None:
    """Waits until a process is gone."""
    deadline = time.monotonic() + TIMEOUT_S
    while is_alive(process):
        assert time.monotonic() < deadline, f"process {process} still runs"
        time.sleep(0.02)
