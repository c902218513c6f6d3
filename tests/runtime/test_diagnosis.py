import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from differnet_runtime import gpu as driver
from differnet_runtime.backends import cuda
from differnet_runtime.backends.selection import BACKENDS
from differnet_runtime.commands import diagnosing
from differnet_runtime.commands.diagnosing import DiagnosisLine, examine, try_backends
from differnet_runtime.errors import BackendUnavailableError
from differnet_runtime.gpu import Gpu, installed
from differnet_runtime.installation import install_line

ORIN = Gpu("Orin", (8, 7), 8 << 30, (12, 6))
NAMES = [
    "python",
    "jetpack",
    "gpu",
    "cuda",
    "cuda_libraries",
    "tensorrt",
    "pycuda",
    "onnxruntime",
    "opencv",
    "gstreamer",
    "ffmpeg",
    "memory",
    "disk",
    "cameras",
]
PACKAGES = """Package: nvidia-l4t-core
Status: install ok installed
Version: 36.4.3-20250107174145

Package: nvidia-jetpack
Status: install ok installed
Depends: nvidia-jetpack-runtime (= 6.2+b77),
 nvidia-jetpack-dev (= 6.2+b77)
Version: 6.2+b77
Description: NVIDIA Jetpack Meta Package

Package: zsh
Version: 5.8.1-1
"""


@pytest.fixture(autouse=True)
def no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "LIBRARY", "libcuda_that_is_not_here.so.1")
    cuda.load_cuda.cache_clear()


@pytest.fixture
def jetson(tmp_path: Path) -> Path:
    """The files by which a Jetson Orin with JetPack 6.2 is known."""
    root = tmp_path / "root"
    for name, text in {
        "etc/nv_tegra_release": "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic\n",
        "var/lib/dpkg/status": PACKAGES,
        "usr/local/cuda/version.json": '{"cuda": {"name": "CUDA SDK", "version": "12.6.11"}}',
        "proc/meminfo": "MemTotal:        7802480 kB\nMemFree: 1 kB\nMemAvailable:    5242880 kB\n",
        "dev/video0": "",
        "dev/video10": "",
        "dev/video2": "",
        "dev/v4l/by-id/usb-Maker_Camera_1-video-index0": "",
    }.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def look(root: Path, folder: Path = Path()) -> dict[str, DiagnosisLine]:
    findings = examine(folder, root)
    assert [finding.name for finding in findings] == NAMES
    return {finding.name: finding for finding in findings}


def test_a_bare_machine_is_told_of_without_an_error(tmp_path: Path) -> None:
    found = look(tmp_path)
    states = {name: found[name].state for name in NAMES}
    assert states["python"] == states["opencv"] == states["onnxruntime"] == "ok"
    assert states["gpu"] == "missing"
    assert "install its driver" in found["gpu"].text
    for name in ("jetpack", "cuda", "tensorrt", "pycuda", "memory", "cameras"):
        assert states[name] == "none", found[name]


def test_a_jetson_is_recognised_by_its_files(jetson: Path) -> None:
    found = look(jetson)
    assert found["jetpack"] == DiagnosisLine("jetpack", "ok", "6.2+b77 (L4T 36.4.3)")
    assert found["cuda"].text.startswith("toolkit 12.6.11 in ")
    assert found["memory"].text == "5.0 GiB of 7.4 GiB available"
    assert found["cameras"] == DiagnosisLine(
        "cameras", "ok", "video0, video2, video10 (usb-Maker_Camera_1-video-index0)"
    )


def test_a_jetson_without_jetpacks_libraries_is_told_what_to_install(jetson: Path) -> None:
    (jetson / "var/lib/dpkg/status").write_text(PACKAGES.replace("nvidia-jetpack\n", "other\n"))
    found = look(jetson)["jetpack"]
    assert found.state == "missing"
    assert "L4T 36.4.3, of JetPack 6" in found.text
    assert "sudo apt install nvidia-jetpack" in found.text


def test_jetpack_5_is_refused(jetson: Path) -> None:
    release = jetson / "etc/nv_tegra_release"
    release.write_text(release.read_text().replace("R36", "R35"))
    assert look(jetson)["jetpack"].state == "missing"
    assert "flash JetPack 6 or 7" in look(jetson)["jetpack"].text


def test_a_gpu_is_described_and_what_needs_it_is_looked_at(
    jetson: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_pycuda() -> None:
        raise BackendUnavailableError("pycuda is not installed. Install it")

    monkeypatch.setattr(diagnosing, "find_gpu", lambda: ORIN)
    monkeypatch.setattr(diagnosing, "open_device", no_pycuda)
    monkeypatch.setattr(diagnosing, "tensorrt_version", lambda: (10, 3, 0))
    (jetson / "proc/driver/nvidia").mkdir(parents=True)
    (jetson / "proc/driver/nvidia/version").write_text(
        "NVRM version: NVIDIA UNIX Open Kernel Module for aarch64  540.4.0  Release Build\n"
    )
    found = look(jetson)
    assert found["gpu"] == DiagnosisLine(
        "gpu", "ok", "Orin, compute capability 8.7, 8.0 GiB, driver 540.4.0 (takes CUDA up to 12.6)"
    )
    assert found["tensorrt"] == DiagnosisLine("tensorrt", "ok", "10.3.0")
    assert found["pycuda"] == DiagnosisLine(
        "pycuda", "missing", "pycuda is not installed. Install it"
    )


def build(gstreamer: str, ffmpeg: str) -> SimpleNamespace:
    """What is asked of OpenCV's module, as a build with or without the two has it."""
    text = f"  Video I/O:\n    FFMPEG:        {ffmpeg}\n    GStreamer:     {gstreamer}\n"
    return SimpleNamespace(
        __version__="4.8.0",
        __file__="/home/me/.venv/lib/python3.10/site-packages/cv2/__init__.py",
        getBuildInformation=lambda: text,
    )


def test_a_pip_opencv_on_a_jetson_hides_jetpacks(
    jetson: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "cv2", build("NO", "YES"))
    found = look(jetson)
    assert found["opencv"].state == found["gstreamer"].state == "missing"
    assert "hides JetPack's" in found["opencv"].text
    assert "--system-site-packages" in found["opencv"].text
    assert found["ffmpeg"].state == "ok"


def test_an_opencv_with_gstreamer_hides_nothing(
    jetson: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One may be compiled into the environment."""
    monkeypatch.setitem(sys.modules, "cv2", build("YES (1.20.3)", "NO"))
    found = look(jetson)
    assert found["opencv"].state == found["gstreamer"].state == "ok"
    assert found["ffmpeg"] == DiagnosisLine(
        "ffmpeg", "missing", "not in this OpenCV; streams (rtsp://) need it"
    )


def test_elsewhere_a_pip_opencv_is_fine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", build("NO", "YES"))
    found = look(tmp_path)
    assert (found["opencv"].state, found["gstreamer"].state) == ("ok", "none")


@pytest.mark.parametrize(
    ("on_jetson", "remedy"), [(False, install_line("opencv-headless")), (True, "numpy<2")]
)
def test_a_missing_opencv_names_what_to_install(
    on_jetson: bool,
    remedy: str,
    jetson: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    found = look(jetson if on_jetson else tmp_path)
    assert {found[name].state for name in ("opencv", "gstreamer", "ffmpeg")} == {"missing"}
    assert remedy in found["opencv"].text


def test_a_missing_onnxruntime_names_its_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert look(tmp_path)["onnxruntime"].state == "missing"
    assert install_line("onnx-cpu") in look(tmp_path)["onnxruntime"].text


@pytest.mark.parametrize(
    ("driver_takes", "state"), [((12, 6), "missing"), ((13, 0), "ok"), (None, "none")]
)
def test_what_is_built_for_a_newer_cuda_than_the_drivers_is_named(
    driver_takes: tuple[int, int] | None,
    state: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def gpu() -> Gpu:
        if driver_takes is None:
            raise BackendUnavailableError("no driver")
        return Gpu("RTX", (8, 9), 8 << 30, driver_takes)

    packages = [package("tensorrt_cu13", "11.4.0"), package("onnxruntime-gpu", "1.26.0")]
    monkeypatch.setattr(diagnosing, "installed", lambda: installed(packages))
    monkeypatch.setattr(diagnosing, "find_gpu", gpu)
    found = look(tmp_path)["cuda_libraries"]
    assert found.state == state
    assert "tensorrt-cu13 11.4.0 for CUDA 13" in found.text
    if state == "missing":
        assert "the driver takes CUDA up to 12.6" in found.text
        assert "[tensorrt-cu12]" in found.text
        assert "onnxruntime-gpu" not in found.text.partition(":")[0]


def package(name: str, version: str) -> Any:
    return SimpleNamespace(metadata={"Name": name}, version=version)


def test_the_cuda_version_of_each_package_is_known() -> None:
    names = [
        *("nvidia-cuda-runtime-cu12", "nvidia_cudnn_cu13", "tensorrt-cu12", "numpy"),
        *("tensorrt_cu13_bindings", "nvidia-cuda-runtime", "onnxruntime-gpu"),
    ]
    found = installed([package(name, "13.1") for name in names])
    assert {one.name: one.cuda for one in found} == {
        "nvidia-cuda-runtime": 13,
        "nvidia-cuda-runtime-cu12": 12,
        "nvidia-cudnn-cu13": 13,
        "onnxruntime-gpu": 13,
        "tensorrt-cu12": 12,
    }
    assert installed([package("onnxruntime-gpu", "1.26.0")])[0].cuda == 12


def test_a_camera_that_may_not_be_opened_is_no_camera(
    jetson: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(diagnosing.os, "access", lambda path, mode: path.name != "video2")
    found = look(jetson)["cameras"]
    assert found.state == "missing"
    assert "video2 may not be opened" in found.text
    assert "usermod -aG video" in found.text


def test_a_full_disk_and_a_missing_folder_are_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert look(tmp_path, tmp_path / "nowhere")["disk"].state == "missing"
    assert look(tmp_path, tmp_path)["disk"].state == "ok"
    full = SimpleNamespace(free=500 << 20)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: full)
    found = look(tmp_path, tmp_path)["disk"]
    assert found.state == "missing"
    assert found.text.startswith("0.5 GiB free in ")


def test_every_backend_but_auto_is_tried() -> None:
    tried = try_backends()
    assert list(tried) == [name for name in BACKENDS if name != "auto"]
    assert tried["onnxruntime-cpu"] is None
    assert all(reason for name, reason in tried.items() if name != "onnxruntime-cpu")


def test_this_machine_is_told_of(tmp_path: Path) -> None:
    found = look(Path("/"), tmp_path)
    assert found["memory"].state == found["disk"].state == "ok"
