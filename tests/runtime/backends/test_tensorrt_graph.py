"""Where a CUDA graph can't be had or trusted, the engine is enqueued instead, and says why."""

from collections.abc import Callable

import numpy as np
import pytest

from differnet_runtime.backends.base import Outputs

from .conftest import Report

pytestmark = pytest.mark.timeout(1800)

DEVICES = pytest.mark.parametrize("integrated", ["0", "1"], ids=["discrete", "integrated"])


def assert_plain(report: Report, expected: Callable[[int], Outputs], reason: str) -> None:
    """Right scores in either memory, no launch of a graph that is kept, and nothing left."""
    value = report.value
    np.testing.assert_allclose(value["scored"][0], expected(3).scores, rtol=1e-6)
    np.testing.assert_allclose(value["lent"][0], expected(2).scores, rtol=1e-6)
    assert reason in value["reason"]
    assert set(value["live"].values()) == {0}


@DEVICES
@pytest.mark.parametrize(
    ("fail", "reason"),
    [
        ("capture", "TensorRT did not run the engine: Error Code 3"),
        ("capture-raise", "the enqueue raised"),
        ("stale", "the graph gives another"),
        ("differs", "the graph gives another"),
    ],
)
def test_an_engine_that_does_not_bear_capture_is_enqueued(
    fail: str,
    reason: str,
    integrated: str,
    scenario: Callable[..., Report],
    expected: Callable[[int], Outputs],
) -> None:
    report = scenario("plain", fail=fail, env={"FAKECUDA_INTEGRATED": integrated})
    assert_plain(report, expected, reason)
    assert f"no CUDA graph is used: {report.value['reason']}" in report.log
    assert sum(call.startswith("cuStreamBeginCapture") for call in report.calls) == 1


@pytest.mark.parametrize(
    "function", ["cuStreamBeginCapture", "cuStreamEndCapture", "cuGraphInstantiateWithFlags"]
)
def test_a_driver_that_refuses_is_named(
    function: str, scenario: Callable[..., Report], expected: Callable[[int], Outputs]
) -> None:
    report = scenario("plain", env={"SCENARIO_FAIL": function})
    assert_plain(report, expected, f"{function}")
    assert "operation not supported (error 801)" in report.value["reason"]


def test_a_graph_that_can_not_be_launched_is_not_used(
    scenario: Callable[..., Report], expected: Callable[[int], Outputs]
) -> None:
    report = scenario("plain", env={"SCENARIO_FAIL": "cuGraphLaunch"})
    assert_plain(report, expected, "cuGraphLaunch failed")


def test_no_graph_is_recorded_unless_asked_for(
    scenario: Callable[..., Report], expected: Callable[[int], Outputs]
) -> None:
    report = scenario("plain", env={"SCENARIO_NO_GRAPH": "1"})
    assert_plain(report, expected, "not asked for")
    assert "no CUDA graph" not in report.log
    assert not [call for call in report.calls if "Graph" in call or "Capture" in call]
