"""What the unit leaves of a real GPU; every test skips where there is none."""

import os
from pathlib import Path

import pytest

from differnet_runtime.confinement import see, try_unit
from differnet_runtime.errors import BackendUnavailableError, ConfigError
from differnet_runtime.gpu import find_gpu, nvidia_gpu

pytestmark = pytest.mark.gpu


@pytest.fixture(autouse=True)
def gpu() -> str:
    try:
        return find_gpu().name
    except BackendUnavailableError as error:
        pytest.skip(str(error))


def test_the_kernel_tells_of_the_gpu() -> None:
    assert nvidia_gpu() is not None


def test_every_node_opens_and_cuda_starts() -> None:
    seen = see()
    assert seen.gpu is None
    assert {node: reason for node, reason in seen.nodes.items() if reason} == {}


def test_the_installed_unit_hides_nothing() -> None:
    if not Path("/run/systemd/system").is_dir() or os.geteuid() != 0:
        pytest.skip("needs systemd and root: sudo .venv/bin/python -m pytest -m gpu tests/jetson")
    try:
        report = try_unit()
    except ConfigError as error:
        pytest.skip(str(error))
    assert report.sound, report
