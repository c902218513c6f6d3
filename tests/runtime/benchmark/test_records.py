import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from differnet_runtime.benchmark.report import Row, Samples


@given(st.lists(st.floats(0.001, 1e4), min_size=2, max_size=60))
def test_percentiles_are_measured_runs_in_order(times: list[float]) -> None:
    found = Samples(np.array([times])).summary()
    order = [found[f"{name}_ms"] for name in ("min", "p50", "p95", "p99", "max")]
    assert order == sorted(order)
    assert set(order) <= set(times)


def test_the_p99_of_few_runs_is_their_maximum() -> None:
    """An interpolated one would lie below a run that really happened."""
    found = Samples(np.arange(1.0, 51.0).reshape(1, -1)).summary()
    assert found["p99_ms"] == found["max_ms"] == 50.0


def test_rounds_that_differ_show_it() -> None:
    times = np.array([[10.0] * 9, [20.0] * 9, [12.0] * 9])
    found = Samples(times).summary()
    assert (found["least_round_ms"], found["greatest_round_ms"]) == (10.0, 20.0)


def test_throughput_counts_frames_not_batches() -> None:
    row = Row("part.onnx", "fp32", "fake", batches={4: Samples(np.full((2, 5), 20.0))})
    assert row.record()["inference"]["4"]["frames_per_s"] == pytest.approx(200.0)
