"""What `differnet engine` prints; how engines are built is tested in `runtime/engine`."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from differnet_runtime.cli import main
from differnet_runtime.model_file.contract import InputContract
from tests.fakes.device import FakeDevice, brightness_verification, fake_device

Make = Callable[..., Path]
Captured = pytest.CaptureFixture[str]


@pytest.fixture
def device(tmp_path: Path) -> FakeDevice:
    return fake_device(tmp_path)


@pytest.fixture
def model(tiny_model: Make) -> Path:
    return tiny_model(verification=brightness_verification(InputContract(size=32)))


def test_it_says_where_the_engine_lies_and_what_it_is_for(device: FakeDevice, model: Path) -> None:
    built = device.command("engine", str(model))
    assert built.code == 0, built.errors
    lines = built.output.splitlines()
    assert lines[0] == "Built."
    rows = dict(line.split("  ", 1) for line in lines[1:] if "  " in line)
    path = Path(rows["engine"].strip().partition(",")[0])
    assert path.is_file()
    assert path.parent.name == "part.onnx.engines"
    assert rows["TensorRT"].strip() == "10.3.0"
    assert rows["typing"].strip() == "strongly typed"
    assert rows["input shape"].strip() == "32x32x3"
    assert rows["smoke test"].strip().startswith("passed: 128.6")
    assert rows["kernels"].strip() == "not listed"
    assert rows["memory"].strip().endswith("MB for tensors, beside the weights")
    where = lines.index("audit: 0 of 2 rules shown; 2 not shown, since the inspector does not tell")
    assert all("not shown" in line for line in lines[where + 1 :])
    assert "building part.onnx's engine: 100 of 100" in built.errors
    again = device.command("engine", str(model))
    assert again.output.splitlines()[0] == "An engine that fits is there already."
    assert again.output.splitlines()[1:] == lines[1:]
    assert again.errors == ""


def test_json_says_all_of_it(device: FakeDevice, model: Path) -> None:
    report = json.loads(device.command("engine", str(model), "--json").output)
    assert report["new"] is True
    assert Path(report["path"]).stat().st_size == report["plan_bytes"]
    assert {"identity", "plan_sha256", "smoke_test", "audit", "build_s"} <= set(report)


def test_a_machine_without_a_gpu_is_told_so(
    model: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("differnet_runtime.gpu.LIBRARY", "libnone.so")
    assert main(["engine", str(model)]) == 2
    assert "no NVIDIA driver is here" in capsys.readouterr().err
    assert not model.with_name("part.onnx.engines").exists()


def test_a_file_that_is_no_model_is_refused(tmp_path: Path, capsys: Captured) -> None:
    (tmp_path / "part.onnx").write_bytes(b"")
    assert main(["engine", str(tmp_path / "part.onnx")]) == 2
    assert "differnet export" in capsys.readouterr().err


@pytest.mark.parametrize(
    "options", [["--batch", "0"], ["--level", "6"], ["--workspace", "x"], ["--unknown"]]
)
def test_arguments_that_mean_nothing_are_refused(options: list[str], model: Path) -> None:
    with pytest.raises(SystemExit):
        main(["engine", str(model), *options])
