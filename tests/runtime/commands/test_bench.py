import json
from collections.abc import Callable
from pathlib import Path

import pytest

from differnet_runtime.benchmark import measuring
from differnet_runtime.benchmark.measuring import BenchmarkTrial
from differnet_runtime.cli import main
from differnet_runtime.model_file.contract import InputContract, Region
from tests.command_line import differnet

Captured = pytest.CaptureFixture[str]
SHORT = ["--runs", "3", "--rounds", "2", "--warm-up", "1", "--frame", "64x48"]


def test_every_contender_is_measured_or_has_its_reason(
    tiny_model: Callable[..., Path], capsys: Captured
) -> None:
    assert main(["bench", str(tiny_model()), *SHORT, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    rows = {row["contender"]: row for row in found["rows"]}
    assert set(rows) == {
        "onnxruntime-cpu",
        "onnxruntime-cuda",
        "onnxruntime-tensorrt",
        "tensorrt",
        "tensorrt-without-cuda-graph",
        "tensorrt-without-zero-copy",
    }
    for row in rows.values():
        assert (row["reason"] is None) == (row["total"] is not None)
    cpu = rows["onnxruntime-cpu"]
    assert cpu["inference"]["1"]["p50_ms"] <= cpu["inference"]["1"]["max_ms"]
    assert found["protocol"]["runs"] == 3
    assert found["machine"]["processor"]


def test_the_table_names_model_contender_and_stages(
    tiny_model: Callable[..., Path], capsys: Captured
) -> None:
    arguments = [str(tiny_model("a.onnx")), str(tiny_model("b.onnx")), *SHORT, "--batch", "1", "2"]
    assert main(["bench", *arguments, "--backend", "fake:1ms"]) == 0
    shown = capsys.readouterr().out
    expected = ("a.onnx (fp32)", "b.onnx (fp32)", "fake:1ms", "preprocess", "p99", "/dev/null")
    for text in expected:
        assert text in shown
    assert "Not measured" not in shown


def test_a_contender_that_is_missing_is_listed(
    tiny_model: Callable[..., Path], capsys: Captured
) -> None:
    assert main(["bench", str(tiny_model()), *SHORT, "--backend", "fake", "fake:raise@1"]) == 0
    assert "part.onnx, fake:raise@1: the fake backend was told to fail" in capsys.readouterr().out


def test_nothing_measured_is_an_error(tiny_model: Callable[..., Path], capsys: Captured) -> None:
    assert main(["bench", str(tiny_model()), *SHORT, "--backend", "fake:raise@1"]) == 2
    captured = capsys.readouterr()
    assert "told to fail" in captured.out
    assert "nothing could be measured" in captured.err


def test_an_unknown_backend_is_refused_before_anything_runs(
    tiny_model: Callable[..., Path], capsys: Captured
) -> None:
    assert differnet("bench", tiny_model(), "--backend", "openvino") == 2
    assert "onnxruntime-cpu" in capsys.readouterr().err


@pytest.fixture
def nothing_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(trial: BenchmarkTrial) -> None:
        pytest.fail(f"{trial.path} was measured before everything was checked")

    monkeypatch.setattr(measuring, "measure", refuse)


@pytest.mark.usefixtures("nothing_is_measured")
def test_what_cannot_be_used_is_refused_before_anything_runs(
    tiny_model: Callable[..., Path], tmp_path: Path, capsys: Captured
) -> None:
    model, none = str(tiny_model()), str(tmp_path / "none")
    assert main(["bench", model, none, *SHORT]) == 2
    assert none in capsys.readouterr().err
    assert main(["bench", model, *SHORT, "--source", none]) == 2
    assert "does not exist. A source is" in capsys.readouterr().err


REGION = Region(x=1300, y=10, width=200, height=800)


def test_drawn_frames_hold_the_regions_of_all_models(
    tiny_model: Callable[..., Path], capsys: Captured
) -> None:
    contract = InputContract(size=32, region=REGION)
    arguments = [str(tiny_model("a.onnx", input=contract)), str(tiny_model("b.onnx"))]
    short = [*SHORT[: SHORT.index("--frame")], "--backend", "fake", "--json"]
    assert main(["bench", *arguments, *short]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["protocol"]["frames"].startswith("drawn frames, 1500 x 810")
    assert all(row["total"] and not row["failed"] for row in found["rows"])


@pytest.mark.usefixtures("nothing_is_measured")
def test_a_frame_too_small_for_a_region_names_the_argument(
    tiny_model: Callable[..., Path], capsys: Captured
) -> None:
    model = tiny_model(input=InputContract(size=32, region=REGION))
    assert main(["bench", str(model), "--frame", "1280x1000"]) == 2
    assert "--frame 1500x1000" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["--batch", "--runs", "--rounds"])
def test_a_number_without_measure_is_refused(name: str, capsys: Captured) -> None:
    assert differnet("bench", "part.onnx", name, "1000001") == 2
    assert "is not a whole number from 1 to 1000000" in capsys.readouterr().err


@pytest.mark.parametrize("size", ["720", "0x5", "ax5", "1x2x3", "20000x20000"])
def test_a_frame_size_that_is_none_is_refused(
    size: str, tiny_model: Callable[..., Path], capsys: Captured
) -> None:
    assert differnet("bench", tiny_model(), "--frame", size) == 2
    assert "is not WxH" in capsys.readouterr().err
