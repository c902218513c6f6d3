"""TensorRT's backend on a real GPU: `make test-gpu`, or `pytest -m gpu tests/jetson`.

The engine is of a few kilobytes and is built here. Without a GPU every test skips, with the reason;
`tests/runtime/backends` runs these very tests over the driver in host memory.
"""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest

from differnet_runtime.backends.base import Outputs
from differnet_runtime.backends.cuda import Device, PrimaryContext
from differnet_runtime.backends.ort import OnnxRuntimeBackend
from differnet_runtime.backends.tensorrt import api
from differnet_runtime.backends.tensorrt.build import BuildRequest
from differnet_runtime.backends.tensorrt.builder import build_plan
from differnet_runtime.backends.tensorrt.identity import typing_of
from differnet_runtime.backends.tensorrt.runner import TensorRTBackend
from differnet_runtime.errors import BackendError
from tests.fakes.fine import fine_graph, fine_scores
from tests.fakes.identities import orin
from tests.fakes.weighted import SIDE, noise, weighted_graph
from tests.runtime.backends.control import free_memory

pytestmark = pytest.mark.gpu

BATCH = 2
MEGABYTE = 1 << 20


@pytest.fixture(scope="module")
def plan(device: Device, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return build(device, weighted_graph(), tmp_path_factory.mktemp("engine"))


def build(device: Device, model: onnx.ModelProto, folder: Path) -> bytes:
    typing = typing_of(api.version(), pinned=False)
    request = BuildRequest(
        model=folder / "model.onnx",
        identity=orin(batch=BATCH, precision="fp32", typing=typing, level=0),
        plan=folder / "plan",
        timing_cache=folder / "timing",
    )
    context = PrimaryContext(device)
    with context:
        plan = build_plan(model.SerializeToString(), request, lambda _: None)
    context.close()
    return plan


@pytest.fixture
def backend(plan: bytes) -> Iterator[TensorRTBackend]:
    with TensorRTBackend(plan) as opened:
        assert isinstance(opened, TensorRTBackend)
        yield opened


@pytest.fixture(scope="module")
def expected() -> Callable[[np.ndarray], Outputs]:
    return OnnxRuntimeBackend(weighted_graph().SerializeToString(), threads=1).infer


def assert_same(found: Outputs, expected: Outputs) -> None:
    np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-5)
    assert found.heatmaps is not None
    assert expected.heatmaps is not None
    np.testing.assert_allclose(found.heatmaps, expected.heatmaps, rtol=1e-5)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 7])
def test_scores_are_those_of_onnx_runtime(
    count: int, backend: TensorRTBackend, expected: Callable[[np.ndarray], Outputs]
) -> None:
    assert_same(backend.infer(noise(count)), expected(noise(count)))


def test_fp32_keeps_its_digits(device: Device, tmp_path: Path) -> None:
    with TensorRTBackend(build(device, fine_graph(), tmp_path)) as backend:
        np.testing.assert_allclose(backend.infer(noise(3)).scores, fine_scores(noise(3)), rtol=1e-5)


def test_a_graph_is_used_and_zero_copy_where_memory_is_shared(
    backend: TensorRTBackend, device: Device
) -> None:
    assert backend.graph_reason is None
    assert backend.zero_copy == (device.integrated and device.can_map_host_memory)


@pytest.mark.parametrize(
    "options", [{"cuda_graph": False}, {"zero_copy": False}, {"zero_copy": True}]
)
def test_every_way_of_running_gives_the_same(
    options: dict[str, bool], plan: bytes, expected: Callable[[np.ndarray], Outputs]
) -> None:
    with TensorRTBackend(plan, **options) as backend:
        assert_same(backend.infer(noise(3)), expected(noise(3)))


def test_a_lent_buffer_is_scored_and_left_alone_by_others(
    backend: TensorRTBackend, expected: Callable[[np.ndarray], Outputs]
) -> None:
    lent = backend.buffer((1, SIDE, SIDE, 3))
    lent[...] = noise(1)
    backend.infer(noise(5)[1:])
    assert_same(backend.infer(lent), expected(noise(1)))
    lent[...] = noise(2)[1:]
    assert_same(backend.infer(lent), expected(noise(2)[1:]))


def test_results_stay_when_the_next_frame_comes(backend: TensorRTBackend) -> None:
    first = backend.infer(noise(1))
    scores = first.scores.copy()
    backend.infer(255 - noise(1))
    np.testing.assert_array_equal(first.scores, scores)


def test_frames_and_engines_leave_no_memory_behind(plan: bytes) -> None:
    TensorRTBackend(plan).close()  # what CUDA loads once stays
    before = free_memory()
    for _ in range(10):
        with TensorRTBackend(plan) as backend:
            for _ in range(200):
                backend.infer(noise(1))
    assert before - free_memory() < 16 * MEGABYTE


def test_another_thread_is_refused_and_may_have_its_own(
    backend: TensorRTBackend, plan: bytes, expected: Callable[[np.ndarray], Outputs]
) -> None:
    found: list[object] = []

    def second() -> None:
        try:
            backend.infer(noise(1))
        except BackendError as error:
            found.append(str(error))
        with TensorRTBackend(plan) as own:
            found.append(own.infer(noise(1)))

    thread = threading.Thread(target=second)
    thread.start()
    thread.join()
    assert "belongs to the thread" in str(found[0])
    assert isinstance(found[1], Outputs)
    assert_same(found[1], expected(noise(1)))
    assert_same(backend.infer(noise(1)), expected(noise(1)))


def test_a_context_of_somebody_else_stays_current(
    plan: bytes, expected: Callable[[np.ndarray], Outputs]
) -> None:
    import pycuda.driver as cuda

    other = cuda.Device(0).make_context()
    try:
        memory = cuda.mem_alloc(64)
        with TensorRTBackend(plan) as backend:
            assert_same(backend.infer(noise(1)), expected(noise(1)))
        copy = np.empty(64, np.uint8)
        cuda.memcpy_htod(memory, np.arange(64, dtype=np.uint8))
        cuda.memcpy_dtoh(copy, memory)
        memory.free()
        np.testing.assert_array_equal(copy, np.arange(64))
    finally:
        other.pop()


def test_the_engine_is_described(backend: TensorRTBackend) -> None:
    assert backend.inspect().lstrip().startswith("{")
    assert backend.device_memory >= 0
    assert backend.batch == BATCH


def test_closing_twice_is_once_and_a_closed_one_says_so(plan: bytes, tmp_path: Path) -> None:
    backend = TensorRTBackend(plan)
    backend.close()
    backend.close()
    with pytest.raises(BackendError, match="closed"):
        backend.infer(noise(1))
