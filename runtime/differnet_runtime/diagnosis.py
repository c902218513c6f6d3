"""Examines what this machine offers the runtime, and says what to install for the rest.

Nothing here raises because something is missing, not even OpenCV.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from .backends.cuda import open_device
from .backends.ort import describe
from .backends.selection import BACKENDS, try_backend
from .backends.tensorrt.api import version as tensorrt_version
from .errors import BackendError, BackendUnavailableError
from .gpu import Library, find_gpu, installed, too_new
from .installation import advice, l4t_release

State = Literal["ok", "missing", "none"]

_LITTLE_DISK_BYTES = 2**30
_UNHIDE = "`pip uninstall opencv-python opencv-python-headless` shows it again."
_JETPACKS = {"34": "5", "35": "5", "36": "6", "38": "7", "39": "7"}
"""JetPack's major version by that of its Linux for Tegra (L4T)."""


@dataclass(frozen=True)
class DiagnosisLine:
    """One line of a diagnosis.

    Args:
        name: What was examined; stays the same from version to version.
        state: `ok`, `missing` (the text says what to do), or `none` if nothing is needed.
        text: What was found, or why it is missing and what to install.
    """

    name: str
    state: State
    text: str


def examine(folder: Path, root: Path = Path("/")) -> list[DiagnosisLine]:
    """Examines the machine.

    Args:
        folder: The folder of the model, whose disk is examined.
        root: The root of the file system.

    Returns:
        The findings, always of the same names in the same order.
    """
    l4t = l4t_release(root)
    gpu = _found("gpu", lambda: _gpu(root))
    on_gpu = (("tensorrt", _tensorrt), ("pycuda", _pycuda))
    idle = "of use only with a GPU"
    return [
        _python(),
        _jetpack(l4t, root),
        gpu,
        _cuda_toolkit(root),
        _cuda_libraries(),
        *(
            _found(name, find) if gpu.state == "ok" else DiagnosisLine(name, "none", idle)
            for name, find in on_gpu
        ),
        _found("onnxruntime", _onnxruntime),
        *_opencv(on_jetson=l4t is not None),
        _memory(root),
        _disk(folder),
        _cameras(root),
    ]


def try_backends() -> dict[str, str | None]:
    """Tries each backend.

    Returns:
        The reason why it does not work here, by its name; None for one that works.
    """
    return {name: _why_not(name) for name in BACKENDS[1:]}


def _why_not(name: str) -> str | None:
    try:
        try_backend(name)
    except BackendError as error:
        return str(error)
    return None


def _found(name: str, find: Callable[[], str]) -> DiagnosisLine:
    """Returns `ok` with what `find` returns, or `missing` with the reason that it raises."""
    try:
        return DiagnosisLine(name, "ok", find())
    except BackendUnavailableError as error:
        return DiagnosisLine(name, "missing", str(error))


def _python() -> DiagnosisLine:
    text = f"{platform.python_version()}, {platform.machine()}, {platform.system()}"
    return DiagnosisLine("python", "ok", f"{text} {platform.release()}")


def _jetpack(l4t: str | None, root: Path) -> DiagnosisLine:
    if l4t is None:
        return DiagnosisLine("jetpack", "none", "not a Jetson")
    package = re.search(
        r"^Package: nvidia-jetpack\n(?:\S.*\n|[ \t].*\n)*?Version: (\S+)",
        _read(root / "var" / "lib" / "dpkg" / "status"),
        re.MULTILINE,
    )
    major = _JETPACKS.get(l4t.partition(".")[0], "of an unknown version")
    if package is None:
        return DiagnosisLine(
            "jetpack",
            "missing",
            f"L4T {l4t}, of JetPack {major}, without JetPack's libraries: "
            "`sudo apt install nvidia-jetpack`",
        )
    if major == "5":
        return DiagnosisLine(
            "jetpack", "missing", f"JetPack {package[1]} has Python 3.8: flash JetPack 6 or 7"
        )
    return DiagnosisLine("jetpack", "ok", f"{package[1]} (L4T {l4t})")


def _gpu(root: Path) -> str:
    gpu = find_gpu()
    found = re.search(
        r"Kernel Module.*?\s(\d+\.[\d.]+)", _read(root / "proc/driver/nvidia/version")
    )
    capability = ".".join(map(str, gpu.compute_capability))
    driver = f"driver {found[1]}" if found else "driver"
    return (
        f"{gpu.name}, compute capability {capability}, {_gib(gpu.memory_bytes)}, "
        f"{driver} (takes CUDA up to {gpu.cuda[0]}.{gpu.cuda[1]})"
    )


def _cuda_toolkit(root: Path) -> DiagnosisLine:
    folder = root / "usr" / "local" / "cuda"
    if not folder.is_dir():
        return DiagnosisLine("cuda", "none", f"no toolkit in {folder}; building pycuda needs one")
    try:
        found = json.loads(_read(folder / "version.json"))["cuda"]["version"]
    except (ValueError, KeyError, TypeError):
        found = folder.resolve().name.removeprefix("cuda-")
    return DiagnosisLine("cuda", "ok", f"toolkit {found} in {folder}")


def _cuda_libraries() -> DiagnosisLine:
    """Compares the CUDA versions of installed packages with what the driver supports."""
    found = installed()
    if not found:
        return DiagnosisLine("cuda_libraries", "none", "none from pip")
    listed = _listed(found)
    try:
        driver = find_gpu().cuda
    except BackendUnavailableError:
        return DiagnosisLine(
            "cuda_libraries", "none", f"{listed}; without a driver to compare with"
        )
    if wrong := too_new(found, driver):
        return DiagnosisLine(
            "cuda_libraries",
            "missing",
            f"{_listed(wrong)}: the driver takes CUDA up to {driver[0]}.{driver[1]}. Update the "
            f"driver, or remove them. {advice(','.join(dict.fromkeys(one.cu12 for one in wrong)))}",
        )
    return DiagnosisLine("cuda_libraries", "ok", listed)


def _listed(libraries: list[Library]) -> str:
    return ", ".join(f"{one.name} {one.version} for CUDA {one.cuda}" for one in libraries)


def _tensorrt() -> str:
    return ".".join(map(str, tensorrt_version()))


def _pycuda() -> str:
    device = open_device()
    try:
        found = version("pycuda")
    except PackageNotFoundError:
        found = "of an unknown version"
    return f"{found}, opens {device.name}"


def _onnxruntime() -> str:
    found, providers = describe()
    names = ", ".join(provider.removesuffix("ExecutionProvider") for provider in providers)
    return f"{found}, built with {names}"


def _opencv(*, on_jetson: bool) -> Iterator[DiagnosisLine]:
    remedy = advice("opencv-headless", jetson=on_jetson)
    try:
        import cv2
    except Exception as error:  # a cv2 built for another numpy raises AttributeError, and more
        cause = f"{type(error).__name__}: {error}"
        yield DiagnosisLine("opencv", "missing", f"can't be imported ({cause}). {remedy}")
        for library in ("gstreamer", "ffmpeg"):
            yield DiagnosisLine(library, "missing", "there is no OpenCV")
        return
    build = cv2.getBuildInformation()
    gstreamer, ffmpeg = _built_with(build, "GStreamer"), _built_with(build, "FFMPEG")
    shadowed = on_jetson and not gstreamer and "site-packages" in Path(cv2.__file__).parts
    yield DiagnosisLine(
        "opencv",
        "missing" if shadowed else "ok",
        f"{cv2.__version__} from {Path(cv2.__file__).parent}"
        + (f" hides JetPack's, which has GStreamer. {_UNHIDE} {remedy}" if shadowed else ""),
    )
    for name, built_in, needed, users in (
        ("gstreamer", gstreamer, on_jetson, "pipelines"),
        ("ffmpeg", ffmpeg, True, "streams (rtsp://)"),
    ):
        state: State = "ok" if built_in else "missing" if needed else "none"
        text = "in OpenCV" if built_in else f"not in this OpenCV; {users} need it"
        yield DiagnosisLine(name, state, text)


def _built_with(build: str, library: str) -> bool:
    return re.search(rf"^\s*{library}:\s+YES", build, re.MULTILINE) is not None


def _memory(root: Path) -> DiagnosisLine:
    fields = dict(re.findall(r"^(\w+):\s+(\d+) kB$", _read(root / "proc/meminfo"), re.MULTILINE))
    if "MemAvailable" not in fields:
        return DiagnosisLine("memory", "none", "the system does not tell")
    available, total = (int(fields[key]) * 1024 for key in ("MemAvailable", "MemTotal"))
    return DiagnosisLine("memory", "ok", f"{_gib(available)} of {_gib(total)} available")


def _disk(folder: Path) -> DiagnosisLine:
    try:
        free = shutil.disk_usage(folder).free
    except OSError as error:
        return DiagnosisLine("disk", "missing", f"{folder}: {error.strerror or error}")
    text = f"{_gib(free)} free in {folder.resolve()}"
    if free < _LITTLE_DISK_BYTES:
        return DiagnosisLine("disk", "missing", f"{text}: too little for a model and its engines")
    return DiagnosisLine("disk", "ok", text)


def _cameras(root: Path) -> DiagnosisLine:
    devices = sorted((root / "dev").glob("video*"), key=lambda path: (len(path.name), path.name))
    if not devices:
        return DiagnosisLine("cameras", "none", "no video device (/dev/video*)")
    refused = [path.name for path in devices if not os.access(path, os.R_OK | os.W_OK)]
    names = ", ".join(path.name for path in devices)
    if refused:
        return DiagnosisLine(
            "cameras",
            "missing",
            f"{names}; {', '.join(refused)} may not be opened: `sudo usermod -aG video $USER`, "
            "then log in again",
        )
    by_id = [path.name for path in sorted((root / "dev/v4l/by-id").glob("*"))]
    return DiagnosisLine("cameras", "ok", names + (f" ({', '.join(by_id)})" if by_id else ""))


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8", errors="replace")
    except OSError:
        return ""


def _gib(count: int) -> str:
    return f"{count / 2**30:.1f} GiB"
