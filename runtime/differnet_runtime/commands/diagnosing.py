"""The work of `differnet doctor`: examine the machine, try a model and a unit, report.

Nothing that is missing raises an error here, not even OpenCV.
"""

from __future__ import annotations

import json
import logging
import os
import platform
import re
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

from ..backends import selection
from ..backends.cuda import open_device
from ..backends.ort import describe
from ..backends.selection import AUTO, BACKENDS, choose, try_backend, why_not_better
from ..backends.tensorrt.api import version as tensorrt_version
from ..command import print_result
from ..confinement import UnitReport, try_unit
from ..errors import BackendError, BackendUnavailableError
from ..gpu import Library, find_gpu, installed, too_new
from ..installation import advice, l4t_release
from ..model_file.file import read_model_file
from ..text import Meaning, coloured, table

UNFIT = 1
"""Exit code when no backend works, or the model or the unit does not."""
_SIGNS = {"ok": "ok", "missing": "missing", "none": "-"}
_MEANINGS: dict[str, Meaning] = {
    "ok": "good",
    "works": "good",
    "missing": "look",
    "warning": "look",
    "hidden": "bad",
    "failed": "bad",
}

DoctorRow = tuple[str, str, str]
"""Sign, name and text."""


def diagnose(model: Path | None, unit_name: str | None, *, as_json: bool) -> int:
    """Examines the machine, prints the findings and returns the exit code.

    Args:
        model: A model file to try on this machine.
        unit_name: A systemd unit under whose confinement the GPU is tried.
        as_json: Print JSON in place of text.

    Raises:
        ModelFileError: The model file can't be used.
    """
    if model is not None:
        read_model_file(model)  # a wrong file is refused before the machine is examined
    findings = examine(model.parent if model else Path.cwd())
    backends = try_backends()
    trial = try_model(model) if model else None
    unit = try_unit(unit_name) if unit_name else None
    report = (findings, backends, trial, unit)
    print_result(as_record(*report), as_text(*report), as_json=as_json)
    works = None in backends.values() and (trial is None or trial.failure is None)
    return 0 if works and (unit is None or unit.sound) else UNFIT


@dataclass
class ModelTrial:
    """The result of running a model on this machine.

    Args:
        path: The model file that was tried.
        precision: `fp32`, `fp16` or `int8`.
        backend: The backend that `auto` chooses; None if none runs the model.
        reasons: Why better backends were not chosen, by their names.
        warnings: Problems that did not keep the model from running.
        difference: Greatest relative difference of the golden frames' scores; None if not scored.
        failure: Why the model does not run, or gives wrong scores; None if it works.

    Example:
        >>> ModelTrial(Path("part.onnx"), "fp32").failure is None
        True
    """

    path: Path
    precision: str
    backend: str | None = None
    reasons: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    difference: float | None = None
    failure: str | None = None


def try_model(path: Path) -> ModelTrial:
    """Opens a model with the backend that `auto` chooses, and scores its golden frames.

    Raises:
        ModelFileError: The file can't be used.
    """
    data, metadata = read_model_file(path)
    trial = ModelTrial(path, metadata.precision)
    try:
        from ..detector import Detector
    except Exception as error:  # OpenCV's: missing, or built for another numpy
        trial.failure = f"the model needs OpenCV, which can't be imported ({error})"
        return trial
    try:
        with _kept_warnings(trial.warnings):
            choice = choose(AUTO, data, path=path)
        trial.backend, trial.reasons = choice.backend.name, choice.reasons
        with Detector.over(choice.backend, metadata) as detector:
            trial.difference = detector.self_test()
    except BackendError as error:
        trial.failure = str(error)
    return trial


@contextmanager
def _kept_warnings(kept: list[str]) -> Iterator[None]:
    """Collects the warnings of the backend selection instead of logging them."""
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: kept.append(record.getMessage())  # type: ignore[method-assign]
    selection.log.addHandler(handler)
    try:
        yield
    finally:
        selection.log.removeHandler(handler)


def as_record(
    findings: list[DiagnosisLine],
    backends: dict[str, str | None],
    trial: ModelTrial | None,
    unit: UnitReport | None = None,
) -> dict[str, Any]:
    """Returns the report for JSON; its keys stay the same from version to version."""
    return {
        "checks": {
            finding.name: {"state": finding.state, "text": finding.text} for finding in findings
        },
        "backends": {
            name: {"works": reason is None, "reason": reason} for name, reason in backends.items()
        },
        "model": None
        if trial is None
        else {
            "path": str(trial.path),
            "precision": trial.precision,
            "backend": trial.backend,
            "reasons": trial.reasons,
            "warnings": trial.warnings,
            "self_test": {
                "passed": trial.failure is None,
                "greatest_relative_difference": trial.difference,
                "failure": trial.failure,
            },
        },
        "unit": None if unit is None else {**asdict(unit), "sound": unit.sound},
    }


def as_text(
    findings: list[DiagnosisLine],
    backends: dict[str, str | None],
    trial: ModelTrial | None,
    unit: UnitReport | None = None,
) -> str:
    """Returns the report as text, wrapped to the width of the terminal."""
    gpu = {finding.text for finding in findings if finding.name == "gpu"}
    sections: dict[str, Iterable[DoctorRow]] = {
        "machine": [(_SIGNS[finding.state], finding.name, finding.text) for finding in findings],
        "backends": [
            ("works", name, "")
            if reason is None
            else ("no", name, "there is no GPU (above)" if reason in gpu else reason)
            for name, reason in backends.items()
        ],
    }
    if trial is not None:
        sections[f"model {trial.path}"] = _trial_rows(trial)
    if unit is not None:
        sections[f"unit {unit.unit}"] = _unit_rows(unit)
    return "\n\n".join(f"{title}\n{_lines(rows)}" for title, rows in sections.items())


def _lines(rows: Iterable[DoctorRow]) -> str:
    return table(
        [("", coloured(sign, _MEANINGS.get(sign), sys.stdout), *rest) for sign, *rest in rows],
        least=(0, 7, 20),
        wrap=max(60, shutil.get_terminal_size().columns),
    )


def _trial_rows(trial: ModelTrial) -> Iterator[DoctorRow]:
    if trial.backend is not None:
        yield "takes", trial.backend, f"chosen by auto, for this {trial.precision} file"
    for names, reason in why_not_better(trial.reasons).items():
        yield "not", names, reason
    for warning in trial.warnings:
        yield "warning", "", warning
    if trial.failure is not None:
        yield "failed", "self test", trial.failure
    else:
        yield "ok", "self test", f"golden frames score as exported, within {trial.difference:.2g}"


def _unit_rows(unit: UnitReport) -> Iterator[DoctorRow]:
    if unit.not_run is not None:
        yield "not run", "", unit.not_run
        return
    for node, reason in unit.hidden.items():
        yield "hidden", node, reason
    if unit.gpu is None:
        yield "ok", "gpu", "CUDA starts under the unit"
    elif unit.outside is None:
        yield "failed", "gpu", f"{unit.gpu} Outside the unit CUDA starts."
    else:
        yield "-", "gpu", f"none outside the unit either: {unit.outside}"


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
    on_gpu = (("tensorrt", lambda: ".".join(map(str, tensorrt_version()))), ("pycuda", _pycuda))
    idle = "of use only with a GPU"
    return [
        DiagnosisLine(
            "python",
            "ok",
            f"{platform.python_version()}, {platform.machine()}, {platform.system()} "
            f"{platform.release()}",
        ),
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
