"""Mutants of a model file: refused in words, or sound; nothing else is opened, taken or ended."""

from __future__ import annotations

import collections
import json
import math
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from benchmarks.machine import RESULTS, describe
from differnet_runtime.backends.ort import OnnxRuntimeBackend
from differnet_runtime.inspection.preprocess import golden_frames
from differnet_runtime.model_file.file import read_model_file
from tests.faults.model_mutants import KINDS, Scorer, mutant
from tests.servers import require

MOST_BYTES = 1 << 30
MOST_S = 10.0
CALLER = [sys.executable, "-m", "tests.faults.mutant_caller"]


@dataclass
class Tried:
    """What became of the mutants in a folder."""

    folder: Path
    outcomes: list[dict[str, Any]]

    @property
    def loaded(self) -> list[Path]:
        return [self.folder / o["file"] for o in self.outcomes if o["refused"] is None]


@pytest.fixture
def scorer() -> Iterator[Scorer]:
    scorer = Scorer()
    yield scorer
    scorer.close()


def write_mutants(folder: Path, sound: bytes, numbers: range, scorer: Scorer) -> Path:
    folder.mkdir()
    for number in numbers:
        (folder / f"{number:05d}.onnx").write_bytes(mutant(sound, number, scorer))
    return folder


def try_all(folder: Path, *before: str) -> Tried:
    done = subprocess.run(
        [*before, *CALLER, str(folder)],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "Traceback" not in done.stderr, done.stderr[-2000:]
    outcomes = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(outcomes) == len(list(folder.glob("*.onnx")))
    return Tried(folder, outcomes)


def check_outcomes(tried: Tried) -> None:
    for outcome in tried.outcomes:
        assert outcome["s"] < MOST_S, outcome
        assert max(outcome["peak_bytes"]) < MOST_BYTES, outcome
        if outcome["refused"] is not None:
            assert len(outcome["refused"]) > 40, outcome
            assert "Error(" not in outcome["refused"], outcome  # an exception nobody expected
    for path in tried.loaded:
        check_sound(path)


def check_sound(path: Path) -> None:
    """All numbers are finite, and the golden frames score as the file says."""
    data, metadata = read_model_file(path)
    assert all(map(math.isfinite, numbers_in(metadata.model_dump()))), path
    for tensor in onnx.load_from_string(data).graph.initializer:
        assert not tensor.external_data
        array = numpy_helper.to_array(tensor)
        assert array.dtype.kind != "f" or np.isfinite(array).all(), path
    assert metadata.verification is not None
    golden = metadata.verification.golden_scores
    with OnnxRuntimeBackend(data, threads=1) as backend:
        for frame, expected in zip(golden_frames(metadata.input, len(golden)), golden, strict=True):
            assert backend.infer(frame[None]).scores[0] == pytest.approx(expected, rel=1e-2), path


def numbers_in(value: object) -> Iterator[float]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        for item in value:
            yield from numbers_in(item)
    elif isinstance(value, float):
        yield value


def opened(trace: Path, folder: Path) -> set[str]:
    """Returns the files that were opened, or tried, without what differs from run to run."""
    found = re.findall(r'open(?:at2?)?\((?:\w+, )?"([^"]*)"', trace.read_text(errors="replace"))
    code = (sys.prefix, sys.base_prefix, str(Path(__file__).parents[2]))
    made = rf"{re.escape(tempfile.gettempdir())}/(differnet-)?\w{{8}}(?=/|$)"
    return {
        re.sub(
            rf"{made}|[0-9a-f]{{64}}|[0-9a-f]+(?=\.partial)|\d+",
            "#",
            name.replace(str(folder), "FOLDER"),
        )
        for name in found
        if not (name.startswith(code) and re.search(r"\.pyc?(\.\d+)?$|\.so$|/$|__pycache__", name))
    }


def check_nothing_else_is_opened(sound: bytes, mutants: Path, tmp_path: Path) -> None:
    require("strace")
    whole = tmp_path / "whole"
    whole.mkdir()
    (whole / "00000.onnx").write_bytes(sound)
    (whole / "00001.onnx").write_bytes(b"no model")  # what a refusal opens: its messages
    seen = []
    for folder in (whole, mutants):
        trace = tmp_path / f"{folder.name}.trace"
        try_all(folder, "strace", "-f", "-e", "trace=open,openat,openat2", "-o", str(trace))
        seen.append(opened(trace, folder))
    assert any("FOLDER/store" in name for name in seen[0])
    assert seen[1] <= seen[0], sorted(seen[1] - seen[0])


def test_a_hundred_mutants(exported_headed: Path, tmp_path: Path, scorer: Scorer) -> None:
    sound = exported_headed.read_bytes()
    tried = try_all(write_mutants(tmp_path / "mutants", sound, range(100), scorer))
    check_outcomes(tried)
    steps = collections.Counter((o["step"], o["refused"] is None) for o in tried.outcomes)
    assert steps["add", False] > 50
    assert steps["load", False] > 3
    assert steps["load", True] > 3


def test_mutants_open_no_other_file(exported_headed: Path, tmp_path: Path, scorer: Scorer) -> None:
    sound = exported_headed.read_bytes()
    mutants = write_mutants(tmp_path / "mutants", sound, range(1, 24, 2), scorer)
    check_nothing_else_is_opened(sound, mutants, tmp_path)


@pytest.mark.slow
def test_two_thousand_mutants(exported_headed: Path, tmp_path: Path, scorer: Scorer) -> None:
    """Writes benchmarks/results/model_mutants.json."""
    sound = exported_headed.read_bytes()
    outcomes: list[dict[str, Any]] = []
    loaded = 0
    for first in range(0, 2000, 100):
        folder = tmp_path / f"mutants{first}"
        tried = try_all(write_mutants(folder, sound, range(first, first + 100), scorer))
        check_outcomes(tried)
        outcomes += tried.outcomes
        loaded += len(tried.loaded)
    traced = write_mutants(tmp_path / "traced", sound, range(2001, 2101, 2), scorer)
    check_nothing_else_is_opened(sound, traced, tmp_path)
    report = {
        "machine": describe(),
        "model_bytes": len(sound),
        "mutants": len(outcomes),
        "kinds": list(KINDS),
        "refused_when_added": sum(o["step"] == "add" for o in outcomes),
        "refused_when_loaded": len(outcomes) - loaded - sum(o["step"] == "add" for o in outcomes),
        "loaded_and_sound": loaded,
        "longest_s": max(o["s"] for o in outcomes),
        "greatest_caller_bytes": max(o["peak_bytes"][0] for o in outcomes),
        "greatest_child_bytes": max(o["peak_bytes"][1] for o in outcomes),
        "traced": 50,
        "other_files_opened": 0,
    }
    (RESULTS / "model_mutants.json").write_text(json.dumps(report, indent=1) + "\n")
