"""Opening, threads, contexts, months of frames, faults, and closing of TensorRT's backend."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from differnet_runtime.backends.base import Outputs
from differnet_runtime.installation import install_line
from tests.fakes.weighted import weighted_graph

from .conftest import Report

pytestmark = pytest.mark.timeout(1800)

DEVICES = pytest.mark.parametrize("integrated", ["0", "1"], ids=["discrete", "integrated"])
MEGABYTE = 1 << 20


@DEVICES
def test_ten_thousand_frames_leave_nothing_behind(
    integrated: str, scenario: Callable[..., Report]
) -> None:
    env = {"FAKECUDA_INTEGRATED": integrated, "FAKECUDA_TRACE": os.devnull}
    value = scenario("many", env=env).value
    early, late = value["seen"]
    assert early["live"] == late["live"]
    assert late["live"]["depth"] == 0
    assert late["resident"] - early["resident"] < 2 * MEGABYTE
    assert set(value["closed"].values()) == {0}


def test_closing_frees_in_order_and_once(scenario: Callable[..., Report]) -> None:
    report = scenario("order")
    freed = {
        "cuGraphExecDestroy": "graph",
        "cuMemFree": "tensor",
        "cuMemFreeHost": "tensor",
        "cuEventDestroy": "event",
        "cuStreamDestroy": "stream",
        "cuDevicePrimaryCtxRelease 0": "device",
    }
    calls = [freed.get(call, call) for call in report.after("close")]
    assert set(calls[:-6]) == {"graph", "tensor"}
    assert calls[0] == "graph"
    assert calls[-6:] == [
        "context closed",
        "engine closed",
        "runtime closed",
        "event",
        "stream",
        "device",
    ]
    assert report.after("again") == []
    assert set(report.value.values()) == {0}


def test_the_context_stack_is_empty_after_every_call(scenario: Callable[..., Report]) -> None:
    depths = scenario("depths").value
    assert "CUDA failed (cuEventRecord failed: operation not supported)" in depths.pop("failed")
    assert set(depths.values()) == {0}


def test_a_context_of_somebody_else_stays_current(
    scenario: Callable[..., Report], expected: Callable[[int], Outputs]
) -> None:
    value = scenario("beside").value
    assert value["seen"] == [True, True, True]
    assert value["depth"] == 1
    np.testing.assert_allclose(value["scored"][0], expected(1).scores, rtol=1e-6)
    assert set(value["live"].values()) == {0}


def test_another_thread_is_refused_and_the_owner_goes_on(
    scenario: Callable[..., Report], expected: Callable[[int], Outputs]
) -> None:
    value = scenario("threads").value
    told = value["told"]
    for call in ("infer", "buffer", "inspect", "close"):
        assert "belongs to the thread 'MainThread'" in told[call]
        assert "'camera' called it" in told[call]
    for thread in ("own", "first"):
        np.testing.assert_allclose(told[thread][0], expected(1).scores, rtol=1e-6)
    assert set(value["live"].values()) == {0}


def test_a_closed_backend_says_so(scenario: Callable[..., Report]) -> None:
    assert scenario("closed").value == ["BackendError: the backend is closed"] * 3


@DEVICES
def test_a_buffer_that_outlives_its_backend_stays_readable(
    integrated: str, scenario: Callable[..., Report], expected: Callable[[int], Outputs]
) -> None:
    report = scenario("viewed", env={"FAKECUDA_INTEGRATED": integrated})
    total, retained = report.value["still"]
    assert total == 7 * 16 * 16 * 3
    assert retained == 1
    assert "a buffer is still in use" in report.log
    np.testing.assert_allclose(report.value["again"][0], expected(1).scores, rtol=1e-6)
    assert report.value["depth"] == 0


def test_a_backend_that_nobody_closes_does_not_abort_the_process(
    scenario: Callable[..., Report],
) -> None:
    report = scenario("uncaught")
    assert report.value == "left open"
    assert "PyCUDA ERROR" not in report.log


def test_a_device_that_faults_is_reported_and_the_process_ends_cleanly(
    scenario: Callable[..., Report],
) -> None:
    report = scenario("lost")
    fault, lost, after = report.value
    assert "inference: CUDA failed (cuEventSynchronize failed: an illegal memory access" in fault
    assert "the CUDA context is lost" in lost
    assert after == lost
    assert "PyCUDA ERROR" not in report.log


def damaged(faketrt: ModuleType) -> dict[str, bytes]:
    onnx = weighted_graph().SerializeToString()
    return {
        "another version": b"ptrt" + bytes(200),
        "another device": faketrt.write_plan(onnx, 2, fail="deserialize"),
        "no context": faketrt.write_plan(onnx, 2, fail="context"),
        "no run": faketrt.write_plan(onnx, 2, fail="enqueue"),
    }


@pytest.mark.parametrize(
    ("case", "text"),
    [
        ("another version", "Current Version: 239"),
        ("another device", "The engine plan file is of another device"),
        ("no context", "OutOfMemory"),
        ("no run", "the enqueue was refused"),
    ],
)
def test_a_plan_that_tensorrt_refuses_is_answered_with_its_own_words(
    case: str, text: str, scenario: Callable[..., Report], faketrt: ModuleType
) -> None:
    report = scenario("opened", plan=damaged(faketrt)[case])
    assert report.value["told"].startswith("BackendError: ")
    assert text in report.value["told"]
    assert set(report.value["left"].values()) == {0}
    if case.startswith("another"):
        assert "build it again on this device with `differnet engine`" in report.value["told"]


@pytest.mark.parametrize(
    ("function", "skip", "integrated"),
    [
        ("cuStreamCreate", "0", "0"),
        ("cuMemAlloc", "0", "0"),
        ("cuMemAlloc", "2", "0"),
        ("cuMemHostAlloc", "1", "0"),
        ("cuMemHostAlloc", "2", "1"),
    ],
)
def test_memory_that_is_used_up_while_opening_leaves_nothing_behind(
    function: str, skip: str, integrated: str, scenario: Callable[..., Report]
) -> None:
    env = {"SCENARIO_FAIL": function, "SCENARIO_SKIP": skip, "FAKECUDA_INTEGRATED": integrated}
    report = scenario("opened", env=env)
    assert "the GPU's memory is used up" in report.value["told"]
    assert f"{function} failed: out of memory" in report.value["told"]
    assert set(report.value["left"].values()) == {0}


def test_without_a_driver_nothing_else_is_touched(
    scenario: Callable[..., Report], tmp_path: Path
) -> None:
    (tmp_path / "libcuda.so.1").write_bytes(b"")
    env = {"LD_LIBRARY_PATH": str(tmp_path), "SCENARIO_NO_DRIVER": "1"}
    report = scenario("opened", plan=b"a plan that would crash", env=env)
    assert report.value["told"].startswith("BackendUnavailableError: no NVIDIA driver")
    assert "libcuda.so.1" in report.value["told"]


@pytest.mark.parametrize(
    ("env", "text"),
    [
        ({"FAKECUDA_DEVICES": "0"}, "no CUDA-capable device is detected (error 100)"),
        ({"FAKECUDA_FAIL": "cuInit=804"}, "(error 804)"),
        ({"SCENARIO_FAIL": "cuDevicePrimaryCtxRetain"}, "out of memory"),
    ],
)
def test_a_driver_that_gives_no_device_is_quoted(
    env: dict[str, str], text: str, scenario: Callable[..., Report]
) -> None:
    value = scenario("opened", env=env).value
    assert text in value["told"]
    assert set(value["left"].values()) == {0}


@pytest.mark.parametrize(
    ("missing", "text", "remedy"),
    [
        ("pycuda", "pycuda is not installed", "pip install pycuda"),
        ("tensorrt", "TensorRT is not installed", install_line("tensorrt")),
    ],
)
def test_a_missing_package_is_named_with_what_to_install(
    missing: str, text: str, remedy: str, scenario: Callable[..., Report]
) -> None:
    told = json.dumps(scenario("without", env={"SCENARIO_WITHOUT": missing}).value)
    assert "BackendUnavailableError" in told
    assert text in told
    assert remedy in told
