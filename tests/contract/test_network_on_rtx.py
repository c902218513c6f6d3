"""Our builder drives NVIDIA's real parser and compiler, as far as that goes without a GPU.

TensorRT-RTX has TensorRT 11's names, and builds on a CPU. What it builds can't run here.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from differnet_runtime.model_file.metadata import Precision
from tests.fakes.half_graph import WIDTH, write_layered_model
from tests.kept import installed

SCRIPT = Path(__file__).with_name("build_on_rtx.py")


@pytest.fixture(params=["fp16", "fp32"])
def precision(request: pytest.FixtureRequest) -> Precision:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture
def built(precision: Precision, tmp_path: Path) -> dict[str, Any]:
    try:
        packages = installed("tensorrt-rtx")
    except LookupError as error:
        pytest.skip(str(error))
    model = write_layered_model(tmp_path / "part.onnx", precision)
    run = subprocess.run(
        [sys.executable, str(SCRIPT), str(model), precision, str(tmp_path / "timing.cache")],
        env={**os.environ, "PYTHONPATH": str(packages)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return dict(json.loads(run.stdout))


def test_a_plan_is_built_and_its_progress_told(built: dict[str, Any], precision: Precision) -> None:
    assert built["plan"] > WIDTH * WIDTH * (2 if precision == "fp16" else 4)
    assert built["shares"] == sorted(built["shares"])
    assert 0.5 < built["shares"][-1] <= 1.0
    assert "can't read the graph: " in built["refused"]
    assert "Failed to parse the ONNX model" in built["refused"]
