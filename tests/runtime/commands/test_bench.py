import json
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path

import pytest

from differnet_runtime.cli import main

Captured = pytest.CaptureFixture[str]
SHORT = ["--runs", "3", "--rounds", "2", "--warm-up", "1", "--frame", "64x48"]
SVG = "{http://www.w3.org/2000/svg}"


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
    for text in ("a.onnx (fp32)", "b.onnx (fp32)", "fake:1ms", "preprocess", "publish", "p99"):
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
    assert main(["bench", str(tiny_model()), "--backend", "openvino"]) == 2
    assert "onnxruntime-cpu" in capsys.readouterr().err


def test_the_picture_is_svg_with_a_curve_and_a_bar_for_each(
    tiny_model: Callable[..., Path], tmp_path: Path, capsys: Captured
) -> None:
    path = tmp_path / "bench.svg"
    names = ["fake:2ms", "fake:raise@1", "fake:5ms"]
    assert main(["bench", str(tiny_model()), *SHORT, "--svg", str(path), "--backend", *names]) == 0
    capsys.readouterr()
    root = ElementTree.parse(path).getroot()
    assert root.tag == f"{SVG}svg"
    titles = [element.text for element in root.iter(f"{SVG}title")]
    assert titles.count("p99") == 2
    assert sum(str(title).startswith("infer:") for title in titles) == 2
    texts = [str(element.text) for element in root.iter(f"{SVG}text")]
    assert any(text.startswith("fake:5ms") for text in texts)
    assert not any("raise" in text for text in texts)


@pytest.mark.parametrize("size", ["720", "0x5", "ax5", "1x2x3", "20000x20000"])
def test_a_frame_size_that_is_none_is_refused(
    size: str, tiny_model: Callable[..., Path], capsys: Captured
) -> None:
    with pytest.raises(SystemExit):
        main(["bench", str(tiny_model()), "--frame", size])
    assert "is not WxH" in capsys.readouterr().err
