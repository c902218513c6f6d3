"""`differnet bench` on a device: the very command; every test skips where there is no GPU."""

import json
from pathlib import Path

import pytest

from differnet_runtime.cli import main
from differnet_runtime.driver import find_gpu
from differnet_runtime.errors import BackendUnavailableError

pytestmark = pytest.mark.gpu

SHORT = ["--runs", "20", "--rounds", "3", "--warm-up", "5", "--json"]


@pytest.fixture(autouse=True)
def gpu() -> str:
    try:
        return find_gpu().name
    except BackendUnavailableError as error:
        pytest.skip(str(error))


def measured(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, dict]:
    assert main(["bench", *arguments, *SHORT]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["machine"]["gpu"]
    return {row["contender"]: row for row in found["rows"]}


def test_tensorrt_is_measured_with_and_without_its_graph(
    exported: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ("tensorrt", "tensorrt-without-cuda-graph")
    rows = measured(capsys, str(exported), "--backend", *names, "--batch", "1", "4")
    for name in names:
        assert rows[name]["reason"] is None
        assert set(rows[name]["inference"]) == {"1", "4"}
    assert rows["tensorrt"]["cuda_graph"]
    assert rows["tensorrt-without-cuda-graph"]["cuda_graph"] == "not used: it was not asked for"


def test_half_precision_is_measured(
    exported_half: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    row = measured(capsys, str(exported_half), "--backend", "tensorrt")["tensorrt"]
    assert row["precision"] == "fp16"
    assert row["reason"] is None


def test_every_contender_has_figures_or_a_reason(
    exported: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = measured(capsys, str(exported))
    assert len(rows) == 5
    for row in rows.values():
        assert (row["reason"] is None) == (row["total"] is not None)
