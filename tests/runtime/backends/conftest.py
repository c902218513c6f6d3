"""TensorRT's backend without a GPU: real pycuda, a driver in host memory, a small `tensorrt`.

A scenario runs in a process of its own, since a driver is loaded once and may not be exchanged.
"""

import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from differnet_runtime.backends.base import Outputs
from differnet_runtime.backends.ort import OnnxRuntimeBackend
from tests.fakes.cuda import build
from tests.fakes.weighted import noise, weighted_graph

SCENARIOS = Path(__file__).with_name("scenarios.py")


@dataclass(frozen=True)
class Report:
    """What a scenario returned, what the driver was called, and what was logged."""

    value: Any
    calls: list[str]
    log: str

    def after(self, mark: str) -> list[str]:
        """The driver's calls between a mark and the next."""
        rest = self.calls[self.calls.index(f"-- {mark}") + 1 :]
        ends = [number for number, call in enumerate(rest) if call.startswith("-- ")]
        return rest[: ends[0]] if ends else rest


@pytest.fixture(scope="session")
def host_cuda() -> build.HostCuda:
    if reason := build.missing():
        pytest.skip(reason)
    return build.build()


@pytest.fixture(scope="session")
def faketrt() -> ModuleType:
    """The small `tensorrt`'s running half, under a name that hides no real one."""
    source = Path(build.__file__).parents[1] / "tensorrt" / "_runtime.py"
    spec = importlib.util.spec_from_file_location("faketrt_runtime", source)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def expected() -> Callable[[int], Outputs]:
    """Returns what ONNX Runtime gives for the first frames."""
    backend = OnnxRuntimeBackend(weighted_graph().SerializeToString(), threads=1)
    return lambda count: backend.infer(noise(count))


@pytest.fixture
def scenario(
    host_cuda: build.HostCuda, faketrt: ModuleType, tmp_path: Path
) -> Callable[..., Report]:
    """Returns a function that runs one of `scenarios.py` in a process with this plan."""

    def run(
        name: str,
        *,
        batch: int = 2,
        model: bytes | None = None,
        plan: bytes | None = None,
        env: dict[str, str] | None = None,
        **fields: Any,
    ) -> Report:
        file, trace = tmp_path / "plan", tmp_path / "trace"
        model = model or weighted_graph().SerializeToString()
        file.write_bytes(faketrt.write_plan(model, batch, **fields) if plan is None else plan)
        trace.unlink(missing_ok=True)
        child = subprocess.run(
            [sys.executable, "-W", "error", str(SCENARIOS), name, str(file)],
            env=host_cuda.environment(**{"FAKECUDA_TRACE": str(trace), **(env or {})}),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert child.returncode == 0, child.stderr
        calls = trace.read_text().splitlines() if trace.exists() else []
        return Report(json.loads(child.stdout), calls, child.stderr)

    return run
