"""The tests for a real device run here as well, on the fake one."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fakes.cuda import build

ROOT = Path(__file__).parents[3]
LAYERS = [
    {
        "Name": "fused",
        "LayerType": "kgen",
        "Inputs": [{"Name": "z", "Datatype": "Float"}],
        "Outputs": [{"Name": "score", "Datatype": "Float"}],
    }
]


def test_the_tests_for_a_device_pass() -> None:
    if reason := build.missing():
        pytest.skip(reason)
    inspector = json.dumps({"Layers": LAYERS})
    run = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "gpu"),
            "tests/jetson/test_engine_on_device.py",
        ],
        cwd=ROOT,
        env=build.build().environment(OMP_NUM_THREADS="1", FAKETRT_INSPECTOR=inspector),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert " passed" in run.stdout
    assert " skipped" not in run.stdout
