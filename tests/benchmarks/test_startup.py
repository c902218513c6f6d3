import sys

import pytest

from benchmarks.startup import once


def test_the_first_line_is_timed_apart_from_the_end() -> None:
    code = "import time; print(1, flush=True); time.sleep(1.0)"
    found = once([sys.executable, "-c", code])
    assert found["end_s"] >= found["first_s"] + 0.5
    assert 0 < found["cpu_s"] < found["end_s"]


@pytest.mark.parametrize("code", ["print(1); raise SystemExit(3)", "pass"])
def test_a_command_that_fails_or_says_nothing_is_no_figure(code: str) -> None:
    with pytest.raises(RuntimeError, match="ended with"):
        once([sys.executable, "-c", code])
