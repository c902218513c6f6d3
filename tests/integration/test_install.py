"""Install lines, carried out: each kind in an environment of its own, or resolved where it needs
a GPU. `test_wheel.py` and `test_locked.py` have the device's, `make install` the demo's."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from differnet_runtime.cli import find_commands
from tests.install_lines import ROOT, shown

pytestmark = pytest.mark.slow

NEEDS_A_GPU = {"tensorrt", "onnx-gpu"}


def kinds() -> list[str]:
    """Returns the sets of extras that any line or command asks for, but the developer's own."""
    words = {word for line in shown() for word in line.words if word.startswith(".[")}
    asked = {word[2:-1] for word in words}
    asked |= {command.extra for command in find_commands().values() if command.extra}
    return sorted(extras for extras in asked if not set(extras.split(",")) & {"dev", *NEEDS_A_GPU})


def by_name() -> list[str]:
    """Returns the packages of others that any line asks for, with the versions that it names."""
    requirements = {r for line in shown() for r in line.requirements if r[0] not in "./"}
    requirements = {r for r in requirements if not r.endswith(".txt")}
    return sorted(requirements - {"torch", "torchvision"})


def pip(*arguments: str | Path, python: Path | str = sys.executable) -> str:
    command = [python, "-m", "pip", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def resolve(*arguments: str | Path) -> str:
    """Finds all packages that a line would bring, and installs none."""
    return pip("install", "--dry-run", "--ignore-installed", *arguments)


@pytest.fixture(autouse=True, scope="module")
def index() -> None:
    command = [sys.executable, "-m", "pip", "index", "versions", "tqdm"]
    if subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("no package index can be reached")


@pytest.mark.parametrize("extras", kinds())
def test_a_clone_installs_in_a_fresh_environment(extras: str, tmp_path: Path) -> None:
    environment = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", environment], check=True)
    python = environment / "bin" / "python"
    pip("install", "--quiet", f".[{extras}]", python=python)
    pip("check", python=python)
    subprocess.run([environment / "bin" / "differnet", "--version"], check=True)
    shutil.rmtree(environment)  # torch alone takes gigabytes


@pytest.mark.parametrize("requirement", by_name())
def test_a_package_of_others_is_found(requirement: str) -> None:
    resolve("--no-deps", requirement)


def test_the_gpu_of_onnx_runtime_is_found() -> None:
    assert "onnxruntime-gpu" in resolve(".[onnx-gpu]")


def test_tensorrt_is_found() -> None:
    """Its own packages are stubs that fetch from NVIDIA's index, so they are not followed."""
    found = resolve("--no-deps", ".[tensorrt]", "tensorrt>=10", "pycuda>=2024.1")
    assert "tensorrt" in found
