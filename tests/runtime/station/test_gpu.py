"""A station on the CPU of a machine with a GPU says so."""

from pathlib import Path

import pytest

from differnet_runtime.config import ModelConfig
from differnet_runtime.gpu import nvidia_gpu
from differnet_runtime.inference.messages import EngineState, EngineStatus
from differnet_runtime.station import health as module
from differnet_runtime.station.health import gpu_state
from differnet_runtime.web.control import engine_limit
from differnet_runtime.web.views import Health, StateView

ORIN = b"nvidia,p3768-0000+p3767-0005-super\0nvidia,p3767-0005\0nvidia,tegra234\0"


def status(backend: str | None, state: EngineState = EngineState.READY, **more: bool):
    reasons = {"tensorrt": "cuInit says operation not supported (error 801)"}
    fallback = more.get("fallback", False)
    return EngineStatus(state, backend, reasons, fallback, "part", "ab", 0, 0, 0, None, 7)


def config(backend: str) -> ModelConfig:
    return ModelConfig(path=Path("part.onnx"), backend=backend)


@pytest.fixture
def jetson(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "nvidia_gpu", lambda: "the GPU of a Jetson (tegra234)")


@pytest.mark.usefixtures("jetson")
def test_auto_on_the_cpu_is_degraded_and_says_why() -> None:
    found = gpu_state(config("auto"), status("onnxruntime-cpu"))
    assert (found.state, found.stops) == ("degraded", False)
    assert found.reason is not None
    for text in ("the GPU of a Jetson", "tensorrt: cuInit says", "doctor --unit"):
        assert text in found.reason
    health = Health.of([found])
    assert (health.ready, health.degraded) == (True, True)
    assert health.reasons[0].startswith("gpu: degraded: there is")


@pytest.mark.usefixtures("jetson")
def test_what_is_meant_so_or_told_elsewhere_is_well() -> None:
    well = StateView(component="gpu", state="ok")
    assert gpu_state(config("onnxruntime-cpu"), status("onnxruntime-cpu")) == well
    assert gpu_state(config("auto"), status("tensorrt")) == well
    assert gpu_state(config("auto"), status("onnxruntime-cuda")) == well
    assert gpu_state(config("auto"), status(None, EngineState.STARTING)) == well
    # The engine's own state tells of a fallback.
    assert gpu_state(config("tensorrt"), status("onnxruntime-cpu", fallback=True)) == well


def test_without_a_gpu_the_cpu_is_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "nvidia_gpu", lambda: None)
    assert gpu_state(config("auto"), status("onnxruntime-cpu")) == StateView(
        component="gpu", state="ok"
    )


def write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def test_a_jetson_is_known_by_its_device_tree(tmp_path: Path) -> None:
    assert nvidia_gpu(tmp_path) is None
    other = tmp_path / "pi"
    write(other / "proc/device-tree/compatible", b"raspberrypi,5-model-b\0brcm,bcm2712\0")
    assert nvidia_gpu(other) is None
    orin = tmp_path / "orin"
    write(orin / "proc/device-tree/compatible", ORIN)
    assert nvidia_gpu(orin) == "the GPU of a Jetson (tegra234)"


@pytest.mark.parametrize(
    ("vendor", "kind", "known"),
    [
        (b"0x10de\n", b"0x030000\n", True),
        (b"0x10de\n", b"0x030200\n", True),
        (b"0x10de\n", b"0x040300\n", False),  # the sound of a graphics card
        (b"0x8086\n", b"0x030000\n", False),
    ],
)
def test_a_card_is_known_by_its_maker_and_class(
    vendor: bytes, kind: bytes, known: bool, tmp_path: Path
) -> None:
    folder = tmp_path / "sys/bus/pci/devices/0000:01:00.0"
    write(folder / "vendor", vendor)
    write(folder / "class", kind)
    found = nvidia_gpu(tmp_path)
    assert found == ("an NVIDIA card at PCI 0000:01:00.0" if known else None)


@pytest.mark.parametrize(
    ("backend", "reasons", "gpu", "expected"),
    [
        ("onnxruntime-cpu", {}, "a card", "chosen"),
        ("onnxruntime-cpu", {"tensorrt": "no driver"}, None, "no_gpu"),
        ("onnxruntime-cpu", {"tensorrt": "no driver"}, "a card", "gpu_unusable"),
        ("onnxruntime-cuda", {"tensorrt": "no package"}, "a card", "no_tensorrt"),
        ("tensorrt", {}, "a card", None),
        (None, {}, None, None),
    ],
)
def test_the_engine_says_in_a_word_why_no_faster_backend_runs(
    backend: str | None, reasons: dict[str, str], gpu: str | None, expected: str | None
) -> None:
    assert engine_limit(backend, reasons, gpu) == expected
