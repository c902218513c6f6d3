import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from differnet_runtime import gpu
from differnet_runtime.backends import cuda
from differnet_runtime.backends.selection import BACKENDS
from differnet_runtime.cli import main
from differnet_runtime.inspection.preprocess import golden_frames
from differnet_runtime.installation import install_line
from differnet_runtime.model_file.contract import InputContract
from differnet_runtime.model_file.metadata import Verification

Make = Callable[..., Path]
Captured = pytest.CaptureFixture[str]


@pytest.fixture
def no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "LIBRARY", "libcuda_that_is_not_here.so.1")
    cuda.load_cuda.cache_clear()


@pytest.fixture
def verified(tiny_model: Make) -> Make:
    """Returns a function that writes a model with the golden scores it really gives."""

    def write(error: float = 0.0, **changes: object) -> Path:
        frames = golden_frames(InputContract(size=32), 3)
        scores = tuple(float(frame.mean()) * (1 + error) for frame in frames)
        verification = Verification(
            frames=3, greatest_relative_difference=0.0, golden_scores=scores
        )
        return tiny_model(verification=verification, **changes)

    return write


def doctor(capsys: Captured, *arguments: object) -> tuple[int, dict]:
    code = main(["doctor", "--json", *map(str, arguments)])
    return code, json.loads(capsys.readouterr().out)


def test_the_machine_is_told_of_in_lines_that_fit(
    capsys: Captured, no_driver: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    assert main(["doctor"]) == 0
    shown = capsys.readouterr().out
    lines = shown.splitlines()
    assert lines[0] == "machine"
    assert any(line.split()[:2] == ["ok", "opencv"] for line in lines)
    assert any(line.split()[:2] == ["missing", "gpu"] for line in lines)
    assert any(line.split() == ["works", "onnxruntime-cpu"] for line in lines)
    assert any(line.split()[:2] == ["no", "tensorrt"] for line in lines)
    assert shown.count("libcuda_that_is_not_here") == 1  # the reason is told once
    assert max(map(len, lines)) <= 100


def test_json_has_the_same(capsys: Captured, no_driver: None) -> None:
    code, shown = doctor(capsys)
    assert code == 0
    assert shown.keys() == {"checks", "backends", "model", "unit"}
    assert {"python", "gpu", "jetpack", "tensorrt", "opencv", "gstreamer"} <= shown["checks"].keys()
    for check in shown["checks"].values():
        assert check["state"] in {"ok", "missing", "none"}
        assert check["text"]
    assert list(shown["backends"]) == [name for name in BACKENDS if name != "auto"]
    assert shown["backends"]["onnxruntime-cpu"] == {"works": True, "reason": None}
    assert not shown["backends"]["tensorrt"]["works"]
    assert shown["model"] is None


def test_where_no_backend_works_it_exits_with_1(
    capsys: Captured, no_driver: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    code, shown = doctor(capsys)
    assert code == 1
    assert install_line("onnx-cpu") in shown["backends"]["onnxruntime-cpu"]["reason"]


def test_a_model_is_tried_with_what_auto_takes(
    verified: Make, capsys: Captured, no_driver: None
) -> None:
    code, shown = doctor(capsys, verified())
    assert code == 0
    model = shown["model"]
    assert model["backend"] == "onnxruntime-cpu"
    assert list(model["reasons"]) == ["tensorrt", "onnxruntime-cuda"]
    assert model["warnings"] == []
    assert model["self_test"]["passed"]
    assert model["self_test"]["greatest_relative_difference"] < 1e-5


def test_a_model_is_told_of_in_words(verified: Make, capsys: Captured, no_driver: None) -> None:
    path = verified(precision="fp16")
    assert main(["doctor", str(path)]) == 0
    shown = capsys.readouterr()
    text = " ".join(shown.out.split())
    assert f"model {path}" in text
    assert "takes onnxruntime-cpu" in text
    assert text.count("NVIDIA driver") == 1, "the machine's row says it"
    assert "--precision fp32" in text
    assert "golden frames score as exported" in text
    assert shown.err == ""  # the warning is told once, where it belongs


def test_an_fp16_file_on_the_cpu_is_a_warning_in_json(
    verified: Make, capsys: Captured, no_driver: None
) -> None:
    code, shown = doctor(capsys, verified(precision="fp16"))
    assert code == 0
    assert shown["model"]["precision"] == "fp16"
    (warning,) = shown["model"]["warnings"]
    assert "FP16 file, and it runs on the CPU" in warning


def test_a_model_that_scores_otherwise_here_fails(
    verified: Make, capsys: Captured, no_driver: None
) -> None:
    path = verified(error=0.1)
    code, shown = doctor(capsys, path)
    assert code == 1
    assert not shown["model"]["self_test"]["passed"]
    assert "relative difference" in shown["model"]["self_test"]["failure"]
    assert main(["doctor", str(path)]) == 1
    assert "failed" in capsys.readouterr().out


def test_a_model_without_opencv_is_told_why(
    verified: Make, capsys: Captured, no_driver: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = verified()
    for name in [name for name in sys.modules if name.startswith("differnet_runtime.")]:
        if name.endswith((".detector", ".preprocess", ".images")):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "cv2", None)
    code, shown = doctor(capsys, path)
    assert code == 1
    assert shown["checks"]["opencv"]["state"] == "missing"
    assert "needs OpenCV" in shown["model"]["self_test"]["failure"]


def test_a_file_that_is_no_model_is_an_error_before_anything_is_looked_at(
    tmp_path: Path, capsys: Captured
) -> None:
    assert main(["doctor", str(tmp_path / "none.onnx")]) == 2
    shown = capsys.readouterr()
    assert "No such file" in shown.err
    assert shown.out == ""


@pytest.mark.gpu
def test_on_a_gpu_auto_takes_it_and_the_model_scores_as_exported(
    exported: Path, capsys: Captured
) -> None:
    code, shown = doctor(capsys, exported)
    assert code == 0, shown
    assert shown["checks"]["gpu"]["state"] == "ok"
    assert shown["model"]["backend"] != "onnxruntime-cpu", shown["model"]["reasons"]
