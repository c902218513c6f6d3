"""`differnet bench` on a device: the very command; every test skips where there is no GPU."""

import json
from pathlib import Path

import pytest

from differnet_runtime.cli import main
from differnet_runtime.errors import BackendUnavailableError
from differnet_runtime.gpu import find_gpu

pytestmark = pytest.mark.gpu

SHORT = ["--runs", "20", "--rounds", "3", "--warm-up", "5"]


@pytest.fixture(autouse=True)
def gpu() -> str:
    try:
        return find_gpu().name
    except BackendUnavailableError as error:
        pytest.skip(str(error))


def show(capsys: pytest.CaptureFixture[str], text: str) -> None:
    """Prints what whoever runs these tests on a device will want to keep."""
    with capsys.disabled():
        print(f"\n{text}")  # noqa: T201 - that is what it is for


def measured(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, dict]:
    assert main(["bench", *arguments, *SHORT, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["machine"]["gpu"]
    rows = {row["contender"]: row for row in found["rows"]}
    lines = [f"power mode: {found['machine']['power_mode']}"]
    for name, row in rows.items():
        lines.append(f"{name}: {row.get('temperatures_before')} to {row.get('temperatures_after')}")
    show(capsys, "\n".join(lines))
    return rows


@pytest.mark.usefixtures("device")
def test_tensorrt_is_measured_with_and_without_its_graph(
    exported: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ("tensorrt", "tensorrt-without-cuda-graph")
    rows = measured(capsys, str(exported), "--backend", *names, "--batch", "1", "4")
    for name in names:
        assert rows[name]["reason"] is None
        assert set(rows[name]["inference"]) == {"1", "4"}
    assert rows["tensorrt"]["cuda_graph"] == "used"
    assert rows["tensorrt-without-cuda-graph"]["cuda_graph"] == "not used: it was not asked for"


@pytest.mark.usefixtures("device")
def test_half_precision_is_measured(
    exported_half: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    row = measured(capsys, str(exported_half), "--backend", "tensorrt")["tensorrt"]
    assert row["precision"] == "fp16"
    assert row["reason"] is None


@pytest.mark.usefixtures("device")
def test_two_files_are_shown_as_text(
    exported: Path, exported_half: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = (exported, exported_half)
    arguments = [*map(str, files), "--backend", "tensorrt"]
    assert main(["bench", *arguments, *SHORT]) == 0
    shown = capsys.readouterr().out
    show(capsys, shown)
    for file, precision in zip(files, ("fp32", "fp16"), strict=True):
        assert f"{file.name} ({precision})" in shown
    assert "CUDA graph" in shown
    assert "temperatures" in shown
    assert "Not measured" not in shown


def test_every_contender_has_figures_or_a_reason(
    exported: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = measured(capsys, str(exported))
    assert len(rows) == 6
    for row in rows.values():
        assert (row["reason"] is None) == (row["total"] is not None)
