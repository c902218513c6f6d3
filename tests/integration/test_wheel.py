"""The built wheel in an empty environment, without torch and onnx, gives the same scores."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from differnet_runtime import Detector
from differnet_runtime.images import list_images, read_image
from tests.conftest import Trained

ROOT = Path(__file__).parents[2]


def run(*command: str | Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh virtual environment with the wheel and its runtime extras; returns its bin folder."""
    root = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", root, ROOT)
    (wheel,) = root.glob("*.whl")
    run(sys.executable, "-m", "venv", root / "venv")
    binaries = root / "venv" / "bin"
    requirement = f"differnet-edge[onnx-cpu,opencv-headless] @ {wheel.as_uri()}"
    run(binaries / "python", "-m", "pip", "install", "--quiet", requirement)
    return binaries


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


def test_what_needs_an_extra_names_it(environment: Path) -> None:
    assert "differnet-edge[train]" in run(environment / "differnet", "--help")
    done = subprocess.run(
        [environment / "differnet", "train", "--data", "x", "-o", "y"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "pip install 'differnet-edge[train]'" in done.stderr
