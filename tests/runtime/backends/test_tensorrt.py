"""TensorRT's backend: what it computes, and which calls of the driver that takes."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from differnet_runtime.backends.base import Outputs
from differnet_runtime.backends.ort import OnnxRuntimeBackend
from differnet_runtime.model_file.file import read_model_file
from tests.fakes.headed import HEIGHT, WIDTH, headed_graph
from tests.fakes.weighted import SIDE, noise

from .conftest import Report

# The first test waits for pycuda's build where the cache is empty.
pytestmark = pytest.mark.timeout(1800)

DISCRETE, INTEGRATED = {"FAKECUDA_INTEGRATED": "0"}, {"FAKECUDA_INTEGRATED": "1"}
FRAME = SIDE * SIDE * 3
HEATMAP = SIDE * SIDE * 4
NON_BLOCKING, THREAD_LOCAL = 1, 1
BLOCKING_SYNC, DISABLE_TIMING = 1, 2


def assert_scored(found: list[object], expected: Outputs) -> None:
    np.testing.assert_allclose(found[0], expected.scores, rtol=1e-6)
    heatmaps = np.asarray(found[1], np.float32).reshape(-1, SIDE, SIDE)
    assert expected.heatmaps is not None
    np.testing.assert_allclose(heatmaps, expected.heatmaps, rtol=1e-6)


@pytest.mark.parametrize("batch", [1, 2, 4])
@pytest.mark.parametrize("device", [DISCRETE, INTEGRATED], ids=["discrete", "integrated"])
def test_scores_are_those_of_onnx_runtime_for_batches_of_every_size(
    device: dict[str, str],
    batch: int,
    scenario: Callable[..., Report],
    expected: Callable[[int], Outputs],
) -> None:
    value = scenario("batches", batch=batch, env=device).value
    assert value["reason"] is None
    assert value["zero_copy"] == (device is INTEGRATED)
    for count, found in enumerate(value["sizes"]):
        assert_scored(found, expected(count))
    five = expected(5)
    assert five.heatmaps is not None
    assert_scored(value["lent"], expected(1))
    assert_scored(value["others"], Outputs(five.scores[1:], five.heatmaps[1:]))
    assert_scored(value["strided"], five)
    assert value["turned"] == value["copied"] != value["lent"]


@pytest.mark.parametrize(
    ("device", "switch"), [(DISCRETE, "1"), (INTEGRATED, "0")], ids=["forced", "switched off"]
)
def test_zero_copy_has_a_switch(
    device: dict[str, str],
    switch: str,
    scenario: Callable[..., Report],
    expected: Callable[[int], Outputs],
) -> None:
    value = scenario("batches", env={**device, "DIFFERNET_ZERO_COPY": switch}).value
    assert value["zero_copy"] == (switch == "1")
    for count, found in enumerate(value["sizes"]):
        assert_scored(found, expected(count))


def test_a_wrong_switch_is_named(scenario: Callable[..., Report]) -> None:
    value = scenario("refused", env={"DIFFERNET_ZERO_COPY": "yes"}).value
    assert value == "DIFFERNET_ZERO_COPY is 0 or 1; received 'yes'"


def test_heads_and_an_input_that_is_not_square_are_as_with_onnx_runtime(
    scenario: Callable[..., Report],
) -> None:
    model = headed_graph().SerializeToString()
    value = scenario("plain", model=model, batch=2, env=INTEGRATED).value
    with OnnxRuntimeBackend(model, threads=1) as backend:
        wanted = backend.infer(noise(3, (HEIGHT, WIDTH, 3)))
    assert value["reason"] is None
    for found, expected in zip(
        value["scored"], (wanted.scores, wanted.heatmaps, wanted.heads), strict=True
    ):
        assert expected is not None
        np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_a_graph_of_a_score_alone_has_neither_heatmap_nor_heads(
    scenario: Callable[..., Report],
) -> None:
    model = headed_graph(extra=False).SerializeToString()
    assert scenario("plain", model=model, batch=1).value["scored"][1:] == [False, False]


def test_a_trained_model_scores_as_with_onnx_runtime(
    scenario: Callable[..., Report], exported: Path
) -> None:
    model = exported.read_bytes()
    contract = read_model_file(exported)[1].input
    value = scenario("plain", model=model, batch=2, env=INTEGRATED).value
    with OnnxRuntimeBackend(model, threads=1) as backend:
        wanted = backend.infer(noise(3, (contract.height, contract.width, 3))).scores
    assert value["reason"] is None
    np.testing.assert_allclose(value["scored"][0], wanted, rtol=1e-5)


def test_on_a_discrete_gpu_pinned_copies_surround_one_launch(
    scenario: Callable[..., Report],
) -> None:
    report = scenario("order", env=DISCRETE)
    assert report.after("full") == launch(2)
    assert report.after("part") == launch(1)
    assert report.after("lent") == launch(1)
    opened = report.after("open")
    assert f"cuStreamCreate {NON_BLOCKING}" in opened
    allocated = [call for call in opened if call.startswith("cuMemAlloc")]
    assert allocated == ["cuMemAlloc 8", f"cuMemAlloc {2 * HEATMAP}", f"cuMemAlloc {2 * FRAME}"]


def launch(count: int) -> list[str]:
    return [
        f"cuMemcpyHtoDAsync {count * FRAME} pinned",
        "cuGraphLaunch",
        f"cuMemcpyDtoHAsync {count * 4} pinned",
        f"cuMemcpyDtoHAsync {count * HEATMAP} pinned",
        "cuEventRecord",
        "cuEventSynchronize",
    ]


def test_on_an_integrated_gpu_nothing_is_copied_and_no_device_memory_taken(
    scenario: Callable[..., Report],
) -> None:
    report = scenario("order", env=INTEGRATED)
    for step in ("full", "part", "lent"):
        assert report.after(step) == ["cuGraphLaunch", "cuEventRecord", "cuEventSynchronize"]
    assert not [call for call in report.calls if call.startswith(("cuMemcpy", "cuMemAlloc"))]
    allocated = [call for call in report.calls if call.startswith("cuMemHostAlloc")]
    assert len(allocated) == 4
    assert all(call.endswith(" mapped") for call in allocated)


@pytest.mark.parametrize("device", [DISCRETE, INTEGRATED], ids=["discrete", "integrated"])
def test_the_engine_runs_once_before_its_graph_is_captured(
    device: dict[str, str], scenario: Callable[..., Report]
) -> None:
    steps = ("cuLaunchHostFunc", "cuEventSynchronize", "cuStreamBegin", "cuStreamEnd", "cuGraph")
    opened = scenario("order", env=device).after("open")
    assert [call for call in opened if call.startswith(steps)] == [
        "cuLaunchHostFunc",
        "cuEventSynchronize",
        f"cuStreamBeginCapture {THREAD_LOCAL}",
        "cuLaunchHostFunc",
        "cuStreamEndCapture",
        "cuGraphInstantiateWithFlags 0",
        "cuGraphDestroy",
        "cuGraphLaunch",
        "cuEventSynchronize",
    ]


def test_waiting_sleeps(scenario: Callable[..., Report]) -> None:
    report = scenario("waiting")
    events = [call for call in report.calls if call.startswith("cuEventCreate")]
    assert events == [f"cuEventCreate {BLOCKING_SYNC | DISABLE_TIMING}"]
    assert set(report.value.values()) == {0}


def test_outputs_stay_when_the_next_frame_comes(scenario: Callable[..., Report]) -> None:
    assert scenario("kept", env=INTEGRATED).value is True


def test_the_device_and_the_engine_are_described(scenario: Callable[..., Report]) -> None:
    layers = {"Layers": [{"Name": "fc"}], "Bindings": ["image"]}
    value = scenario("described", batch=4, inspector=layers, env=INTEGRATED).value
    assert value["device"] == {
        "name": "Host Memory GPU",
        "compute_capability": [8, 7],
        "multiprocessors": 8,
        "total_memory": 8 << 30,
        "driver_version": 13000,
        "integrated": True,
        "can_map_host_memory": True,
    }
    assert value["free"] == 4 << 30
    assert value["batch"] == 4
    assert value["inspector"] == layers
    assert value["device_memory"] == 4096
    takes = f"the engine takes (N, {SIDE}, {SIDE}, 3) uint8; received"
    assert f"{takes} (1, 2, 2, 3) uint8" in value["shape refused"]
    assert f"{takes} (1, {SIDE}, {SIDE}, 3) float32" in value["type refused"]
    assert value["large buffer"] == [9, SIDE, SIDE, 3]
    assert set(value["live"].values()) == {0}
