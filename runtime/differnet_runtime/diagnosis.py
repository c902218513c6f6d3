"""What this machine has of what the runtime can use, and what to install for the rest.

Nothing here raises because something is missing, OpenCV included.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from .backends.cuda import open_device
from .backends.ort import describe
from .backends.selection import AUTO, BACKENDS, try_backend
from .backends.tensorrt.api import version as tensorrt_version
from .errors import BackendError, BackendUnavailableError
from .gpu import Library, find_gpu, installed, too_new
from .installation import advice

State = Literal["ok", "missing", "none"]

_LITTLE_DISK_BYTES = 2**30
_UNHIDE = "`pip uninstall opencv-python opencv-python-headless` shows it again."
_JETPACKS = {34: "5", 35: "5", 36: "6", 38: "7", 39: "7"}
"""JetPack's major version by that of its Linux for Tegra (L4T)."""


@dataclass(frozen=True)
class DiagnosisLine:
    """One line of a diagnosis.

    Args:
        name: What was looked at; stays the same from version to version.
        state: `ok`, `missing` (the text says what to do), or `none` where nothing is needed.
        text: What was found, or why it is missing and what to install.
    """

    name: str
    state: State
    text: str


def examine(folder: Path, root: Path = Path("/")) -> list[DiagnosisLine]:
    """Looks at the machine.

    Args:
        folder: Where the model lies, or would lie: its disk is looked at.
        root: The root of the file system.

    Returns:
        The findings, always of the same names in the same order.
    """
    l4t, gpu = _l4t(root), _gpu(root)
    idle = "of use only with a GPU"
    return [
        _python(),
        _jetpack(l4t, root),
        gpu,
        _cuda_toolkit(root),
        _cuda_libraries(),
        _tensorrt() if gpu.state == "ok" else DiagnosisLine("tensorrt", "none", idle),
        _pycuda() if gpu.state == "ok" else DiagnosisLine("pycuda", "none", idle),
        _onnxruntime(),
        *_opencv(on_jetson=l4t is not None),
        _memory(root),
        _disk(folder),
        _cameras(root),
    ]


def try_backends() -> dict[str, str | None]:
    """Finds out which backends work here.

    Returns:
        Why not, by name; None for one that works.
    """
    return {name: _why_not(name) for name in BACKENDS if name != AUTO}


def _why_not(name: str) -> str | None:
    try:
        try_backend(name)
    except BackendError as error:
        return str(error)
    return None


def _python() -> DiagnosisLine:
    text = f"{platform.python_version()}, {platform.machine()}, {platform.system()}"
    return DiagnosisLine("python", "ok", f"{text} {platform.release()}")


def _l4t(root: Path) -> str | None:
    """Returns the version of Linux for Tegra, `36.4.3`; None off a Jetson."""
    text = _read(root / "etc" / "nv_tegra_release")
    found = re.search(r"# R(\d+) \(release\), REVISION: ([\d.]+)", text)
    return f"{found[1]}.{found[2]}" if found else None


def _jetpack(l4t: str | None, root: Path) -> DiagnosisLine:
    if l4t is None:
        return DiagnosisLine("jetpack", "none", "not a Jetson")
    package = re.search(
        r"^Package: nvidia-jetpack\n(?:\S.*\n|[ \t].*\n)*?Version: (\S+)",
        _read(root / "var" / "lib" / "dpkg" / "status"),
        re.MULTILINE,
    )
    major = _JETPACKS.get(int(l4t.partition(".")[0]), "of an unknown version")
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


def _gpu(root: Path) -> DiagnosisLine:
    try:
        gpu = find_gpu()
    except BackendUnavailableError as error:
        return DiagnosisLine("gpu", "missing", str(error))
    found = re.search(
        r"Kernel Module.*?\s(\d+\.[\d.]+)", _read(root / "proc/driver/nvidia/version")
    )
    capability = ".".join(map(str, gpu.compute_capability))
    driver = f"driver {found[1]}" if found else "driver"
    return DiagnosisLine(
        "gpu",
        "ok",
        f"{gpu.name}, compute capability {capability}, {_gib(gpu.memory_bytes)}, "
        f"{driver} (takes CUDA up to {gpu.cuda[0]}.{gpu.cuda[1]})",
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
    """Compares what is installed for a CUDA version with what the driver takes."""
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
    wrong = too_new(found, driver)
    if wrong:
        return DiagnosisLine(
            "cuda_libraries",
            "missing",
            f"{_listed(wrong)}: the driver takes CUDA up to {driver[0]}.{driver[1]}. Update the "
            f"driver, or remove them. {advice(','.join(dict.fromkeys(one.cu12 for one in wrong)))}",
        )
    return DiagnosisLine("cuda_libraries", "ok", listed)


def _listed(libraries: list[Library]) -> str:
    return ", ".join(f"{one.name} {one.version} for CUDA {one.cuda}" for one in libraries)


def _tensorrt() -> DiagnosisLine:
    try:
        return DiagnosisLine("tensorrt", "ok", ".".join(map(str, tensorrt_version())))
    except BackendUnavailableError as error:
        return DiagnosisLine("tensorrt", "missing", str(error))


def _pycuda() -> DiagnosisLine:
    try:
        device = open_device()
    except BackendUnavailableError as error:
        return DiagnosisLine("pycuda", "missing", str(error))
    return DiagnosisLine("pycuda", "ok", f"{_version('pycuda')}, opens {device.name}")


def _onnxruntime() -> DiagnosisLine:
    try:
        found, providers = describe()
    except BackendUnavailableError as error:
        return DiagnosisLine("onnxruntime", "missing", str(error))
    names = ", ".join(provider.removesuffix("ExecutionProvider") for provider in providers)
    return DiagnosisLine("onnxruntime", "ok", f"{found}, built with {names}")


def _opencv(*, on_jetson: bool) -> Iterator[DiagnosisLine]:
    remedy = advice("opencv-headless", jetson=on_jetson)
    try:
        import cv2
    except Exception as error:  # a cv2 built for another numpy raises AttributeError, and more
        cause = f"{type(error).__name__}: {error}"
        yield DiagnosisLine("opencv", "missing", f"can't be imported ({cause}). {remedy}")
        yield DiagnosisLine("gstreamer", "missing", "there is no OpenCV")
        yield DiagnosisLine("ffmpeg", "missing", "there is no OpenCV")
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
    yield DiagnosisLine(
        "gstreamer", *_video_library(gstreamer, needed=on_jetson, for_what="pipelines")
    )
    yield DiagnosisLine(
        "ffmpeg", *_video_library(ffmpeg, needed=True, for_what="streams (rtsp://)")
    )


def _built_with(build: str, library: str) -> bool:
    return re.search(rf"^\s*{library}:\s+YES", build, re.MULTILINE) is not None


def _video_library(there: bool, *, needed: bool, for_what: str) -> tuple[State, str]:
    if there:
        return "ok", "in OpenCV"
    return "missing" if needed else "none", f"not in this OpenCV; {for_what} need it"


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


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "of an unknown version"


def _gib(count: int) -> str:
    return f"{count / 2**30:.1f} GiB"
