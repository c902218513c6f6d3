import pytest
from hypothesis import given
from hypothesis import strategies as st

from differnet_runtime.backends.tensorrt.builder import Phases

# What TensorRT-RTX 1.7 told while it built a small graph, shortened.
TOLD: list[tuple[str, str, object, object]] = [
    ("start", "Building engine", None, 6),
    ("start", "Cloning network graph", "Building engine", 2),
    ("step", "Cloning network graph", 0, None),
    ("step", "Cloning network graph", 1, None),
    ("finish", "Cloning network graph", None, None),
    ("step", "Building engine", 0, None),
    ("step", "Building engine", 1, None),
    ("start", "Building engine from subgraph", "Building engine", 1),
    ("start", "Timing tactics", "Building engine from subgraph", 3),
    ("start", "Timing graph nodes", "Timing tactics", 3),
    ("step", "Timing graph nodes", 0, None),
    ("step", "Timing graph nodes", 2, None),
    ("finish", "Timing graph nodes", None, None),
    ("step", "Timing tactics", 0, None),
    ("finish", "Timing tactics", None, None),
    ("step", "Building engine from subgraph", 0, None),
    ("finish", "Building engine from subgraph", None, None),
    ("step", "Building engine", 5, None),
    ("finish", "Building engine", None, None),
]


def test_a_real_build_goes_from_0_to_1_and_never_back() -> None:
    phases, seen = Phases(), [0.0]
    for kind, name, first, second in TOLD:
        if kind == "start":
            phases.start(name, first, second)  # type: ignore[arg-type]
        elif kind == "step":
            phases.step(name, first)  # type: ignore[arg-type]
        else:
            phases.finish(name)
        seen.append(phases.done)
    assert seen == sorted(seen)
    assert seen[-1] == 1.0
    assert phases.done == 1.0
    # Half of the clone, in the first of six steps; then a third of it in the third step.
    assert seen[3] == pytest.approx(0.5 / 6)
    assert seen[11] == pytest.approx((2 + 1 / 9) / 6)


NAMES = st.sampled_from("abc")


@given(st.lists(st.tuples(st.sampled_from(("start", "step", "finish")), NAMES, NAMES | st.none(),
                          st.integers(0, 5))))  # fmt: skip
def test_whatever_is_told_it_stays_between_0_and_1(
    told: list[tuple[str, str, str | None, int]],
) -> None:
    phases, before = Phases(), 0.0
    for kind, name, parent, number in told:
        if kind == "start":
            phases.start(name, parent, number)
        elif kind == "step":
            phases.step(name, number)
        else:
            phases.finish(name)
        assert before <= phases.done <= 1.0
        before = phases.done
