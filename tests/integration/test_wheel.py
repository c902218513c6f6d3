"""The wheel on a device, installed as docs/daemon.md says: no torch, no onnx, the same scores."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from differnet_runtime import Detector
from differnet_runtime.images import list_images, read_image
from tests.conftest import Trained
from tests.install_lines import InstallLine, documented

ROOT = Path(__file__).parents[2]


def run(*command: str | Path, folder: Path = ROOT) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `make wheel` writes."""
    root = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", root, ROOT)
    (path,) = root.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def environment(wheel: Path) -> Path:
    """A fresh virtual environment, made by the page's own line; returns its bin folder."""
    (line,) = (line for line in documented() if line.where == "docs/daemon.md" and of_wheel(line))
    run(sys.executable, "-m", "venv", wheel.parent / "venv")
    binaries = wheel.parent / "venv" / "bin"
    run(
        binaries / "python",
        "-m",
        "pip",
        "install",
        "-q",
        "--no-compile",
        *line.words,
        folder=wheel.parent,
    )
    return binaries


def of_wheel(line: InstallLine) -> bool:
    return any(".whl" in word for word in line.words)


def test_torch_and_onnx_are_not_there(environment: Path) -> None:
    probe = "import importlib.util as u; print([n for n in ('torch', 'onnx') if u.find_spec(n)])"
    assert run(environment / "python", "-c", probe).strip() == "[]"


def test_run_gives_the_same_scores(environment: Path, trained: Trained, exported: Path) -> None:
    folder = trained.source / "test" / "scratch"
    said = run(environment / "differnet", "run", "--model", exported, "--source", folder, "--json")
    scores = [json.loads(line)["score"] for line in said.splitlines()]
    with Detector(exported) as detector:
        expected = [detector(read_image(path)).value for path in list_images(folder)]
    assert scores == pytest.approx(expected, rel=1e-6)


def test_what_a_station_needs_is_there(environment: Path) -> None:
    modules = "differnet_runtime.web.server, differnet_runtime.sinks.mqtt, cv2, onnxruntime"
    run(environment / "python", "-c", f"import {modules}")


def test_what_needs_an_extra_names_it_and_the_wheel(environment: Path, wheel: Path) -> None:
    assert "[train]" in run(environment / "differnet", "--help")
    done = subprocess.run(
        [environment / "differnet", "train", "--data", "x", "-o", "y"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert f"pip install '{wheel}[train]'" in done.stderr
