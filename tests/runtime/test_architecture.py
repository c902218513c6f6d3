"""The runtime must run on a device that has no torch and no onnx."""

import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import differnet_runtime

FORBIDDEN = ("torch", "torchvision", "onnx", "timm", "sklearn", "safetensors", "matplotlib")
CODE = """
import importlib, sys
for name in {forbidden}:
    sys.modules[name] = None
for name in {modules}:
    importlib.import_module(name)
"""


def modules() -> list[str]:
    found = pkgutil.walk_packages(differnet_runtime.__path__, "differnet_runtime.")
    return ["differnet_runtime", *(module.name for module in found)]


def imports(names: list[str], forbidden: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    code = CODE.format(forbidden=forbidden, modules=names)
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )


def test_every_module_of_the_runtime_imports_without_the_training_packages() -> None:
    names = modules()
    assert "differnet_runtime.commands.calibrating" in names
    assert "differnet_runtime.backends.ort" in names
    result = imports(names, FORBIDDEN)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("backend", ["onnxruntime", "tensorrt", "pycuda"])
def test_no_backend_is_imported_before_it_is_asked_for(backend: str) -> None:
    result = imports(modules(), (backend,))
    assert result.returncode == 0, result.stderr


def test_the_block_really_blocks() -> None:
    assert imports(["torch"], FORBIDDEN).returncode != 0


EXCUSE = re.compile(r"noqa: *(?:[A-Z]+\d+, *)*S\d+(?:, *[A-Z]+\d+)*(.*)")
ROOT = Path(__file__).parents[2]


def test_no_rule_of_security_is_switched_off_without_a_reason_beside_it() -> None:
    found = [
        (file, excuse[1])
        for folder in ("runtime", "training", "export", "benchmarks", "examples")
        for file in (ROOT / folder).rglob("*.py")
        for excuse in EXCUSE.finditer(file.read_text())
    ]
    assert found
    assert not [file for file, reason in found if not re.match(r" - \w.{5,}", reason)]
