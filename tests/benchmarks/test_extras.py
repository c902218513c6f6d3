"""The matrix of extras: what is asked for on which machine, and what is left out of pip's run."""

import json
import subprocess
from itertools import product

import pytest
from packaging.requirements import Requirement

from benchmarks import extras
from benchmarks.extras import MACHINES, PYTHONS, RESULT, requirements, resolve


def names(extra: str, python: str, machine: str) -> set[str]:
    return {one.name for one in requirements(extra, python, machine)}


def test_markers_are_those_of_the_target() -> None:
    assert "tomli" in names("service", "3.10", "x86_64")
    assert "tomli" not in names("service", "3.11", "x86_64")
    own = names("onnx-cpu", "3.12", "aarch64") - {"onnxruntime"}
    for extra in ("tensorrt", "tensorrt-cu12", "onnx-gpu", "onnx-gpu-cu12"):
        assert names(extra, "3.12", "aarch64") == own
    assert {"tensorrt-cu13", "pycuda"} <= names("tensorrt", "3.12", "x86_64")
    assert {"tensorrt-cu12", "pycuda"} <= names("tensorrt-cu12", "3.12", "x86_64")


def test_a_source_package_is_left_out_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, ...]] = []

    def pip(*arguments: str) -> subprocess.CompletedProcess[str]:
        asked.append(arguments)
        if arguments[0] == "index":
            return subprocess.CompletedProcess(
                [], 0, "pycuda (2026.1)\nAvailable versions: 2026.1", ""
            )
        if "pycuda" in arguments:
            missing = "ERROR: No matching distribution found for pycuda"
            return subprocess.CompletedProcess([], 1, "", missing)
        report = next(one for one in arguments if one.startswith("--report="))
        item = {"metadata": {"name": "numpy", "version": "2.2.6"}}
        with open(report.removeprefix("--report="), "w") as file:  # noqa: PTH123
            json.dump({"install": [item]}, file)
        return subprocess.CompletedProcess([], 0, "", "")

    monkeypatch.setattr(extras, "_pip", pip)
    found = resolve([Requirement("numpy"), Requirement("pycuda")], "3.10", "aarch64")
    assert found == {
        "versions": {"numpy": "2.2.6"},
        "source_only": {"pycuda": "2026.1"},
        "error": None,
    }
    assert "--python-version=3.10" in asked[1]
    assert "--only-binary=:all:" in asked[0]
    assert "--platform=manylinux_2_28_aarch64" in asked[0]


def test_another_error_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    def pip(*_: str) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess([], 1, "", "WARNING: x\nERROR: ResolutionImpossible")

    monkeypatch.setattr(extras, "_pip", pip)
    assert (
        resolve([Requirement("numpy")], "3.10", "x86_64")["error"] == "ERROR: ResolutionImpossible"
    )


def test_every_extra_of_the_result_can_be_installed_everywhere() -> None:
    rows = json.loads(RESULT.read_text())["rows"]
    assert [row for row in rows if row["error"]] == []
    done = {(row["extra"], row["python"], row["machine"]) for row in rows}
    assert done == set(product({row["extra"] for row in rows}, PYTHONS, MACHINES))
    sources = {name for row in rows for name in row["source_only"]}
    assert sources == {"pycuda", "tensorrt-cu12", "tensorrt-cu13", "tensorrt-rtx"}
    assert {"onnx-gpu", "onnx-gpu-cu12", "tensorrt", "tensorrt-cu12"} <= {
        row["extra"] for row in rows
    }
