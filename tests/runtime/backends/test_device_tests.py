"""The tests for a real device run here as well, over the driver in host memory."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.fakes.cuda import build

pytestmark = pytest.mark.timeout(1800)

ROOT = Path(__file__).parents[3]


def test_the_tests_for_a_device_pass(host_cuda: build.HostCuda) -> None:
    pytest_quiet = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    run = subprocess.run(
        [*pytest_quiet, "-m", "gpu", "tests/jetson/test_backend_on_device.py"],
        cwd=ROOT,
        env=host_cuda.environment(FAKECUDA_INTEGRATED="1", OMP_NUM_THREADS="1"),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert " passed" in run.stdout
    assert " skipped" not in run.stdout
