"""Builds the host-memory CUDA driver, and the real pycuda over it, once; both are kept in a cache.

pycuda is published as source only and takes minutes to compile.
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.kept import kept

PYCUDA = "pycuda==2026.1"
HERE = Path(__file__).parent
SOURCES = tuple(sorted(HERE.glob("*.[ch]")))
FLAGS = ("-std=gnu11", "-O1", "-shared", "-fPIC", "-Wall", "-Wextra", "-Werror")
# cuCtxDetach: CUDA deprecates it, pycuda calls it.
WARNINGS = ("-Wno-deprecated-declarations",)
STUB = "#define STUB(name) __attribute__((weak)) int name(void) { return 801; }\n"
_NAMES = (
    r"\bCUDAAPI\s+(cu\w+)\s*\(",
    r"#\s*define\s+cu\w+\s+(cu\w+)\b",
    r"__CUDA_API_PT(?:SZ|DS)\((cu\w+)\)",
)


@dataclass(frozen=True)
class HostCuda:
    """Folders to be put on a child's search paths."""

    library: Path
    """Holds `libcuda.so.1`."""
    packages: Path
    """Holds `pycuda` and what it needs."""

    def environment(self, **more: str) -> dict[str, str]:
        """Returns this process's environment, with the fake TensorRT and this driver in it."""
        here = os.environ.get("PYTHONPATH")
        path = [str(HERE.parent), str(self.packages), *([here] if here else [])]
        return {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(path),
            "LD_LIBRARY_PATH": str(self.library),
            **more,
        }


def missing() -> str | None:
    """Returns what this machine lacks to build the driver, or None."""
    if _headers() is None:
        return "CUDA's headers are missing: no cuda.h in /usr/local/cuda*/include or CUDA_HOME"
    if shutil.which("cc") is None or shutil.which("c++") is None:
        return "a C and a C++ compiler are missing (cc, c++): install build-essential"
    return None


def cuda_headers() -> Path:
    """Returns the folder that holds `cuda.h`."""
    headers = _headers()
    assert headers is not None, missing()
    return headers


def driver() -> Path:
    """Returns the driver's folder; builds what the cache does not hold."""
    headers = cuda_headers()
    return kept(f"libcuda-{_driver_key(headers)}", lambda to: _build_driver(headers, to))


def build() -> HostCuda:
    """Returns the driver and pycuda over it; builds what the cache does not hold."""
    headers, library = cuda_headers(), driver()
    python = f"cp{sys.version_info[0]}{sys.version_info[1]}-{sysconfig.get_platform()}"
    key = f"{PYCUDA.replace('==', '-')}-{python}-cuda{_version(headers)}"
    packages = kept(key, lambda to: _build_pycuda(headers.parent, library, to))
    return HostCuda(library, packages)


@functools.cache
def _headers() -> Path | None:
    roots = [Path(os.environ.get("CUDA_HOME", "/usr/local/cuda"))]
    roots += sorted(Path("/usr/local").glob("cuda-*"), reverse=True)
    return next((root / "include" for root in roots if (root / "include/cuda.h").is_file()), None)


def _version(headers: Path) -> str:
    return re.findall(r"#define CUDA_VERSION (\d+)", (headers / "cuda.h").read_text())[0]


def _driver_key(headers: Path) -> str:
    digest = hashlib.sha256(Path(__file__).read_bytes())
    for source in SOURCES:
        digest.update(source.read_bytes())
    return f"{digest.hexdigest()[:16]}-{sysconfig.get_platform()}-cuda{_version(headers)}"


def _build_driver(headers: Path, to: Path) -> None:
    """Compiles the sources, and weak stubs (not supported) for every other function of the API."""
    text = (headers / "cuda.h").read_text() + (headers / "cudaProfiler.h").read_text()
    names = sorted({name for pattern in _NAMES for name in re.findall(pattern, text)})
    rest = to / "rest.c"
    rest.write_text(STUB + "".join(f"STUB({name})\n" for name in names))
    output = ["-Wl,-soname,libcuda.so.1", "-o", str(to / "libcuda.so.1")]
    sources = [str(source) for source in (*SOURCES, rest) if source.suffix == ".c"]
    _run(["cc", *FLAGS, *WARNINGS, "-I", str(headers), *output, *sources], to)
    (to / "libcuda.so").symlink_to("libcuda.so.1")


def _build_pycuda(toolkit: Path, library: Path, to: Path) -> None:
    with tempfile.TemporaryDirectory() as work_name:
        work = Path(work_name)
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
        source_only = ["--no-binary", "pycuda", "--no-deps", PYCUDA]
        _run([*pip, "download", *source_only, "-d", str(work)], work)
        shutil.unpack_archive(next(work.glob("pycuda-*.tar.gz")), work, filter="data")
        source = next(path for path in work.glob("pycuda-*") if path.is_dir())
        # No random numbers: cuRAND's headers are a package of their own. Not optimised: it is
        # compiled once and waited for.
        options = ["--no-cuda-enable-curand", "--cxxflags=-O0"]
        places = [f"--cuda-root={toolkit}", f"--cudadrv-lib-dir={library}"]
        _run([sys.executable, "configure.py", *places, *options], source)
        _run([*pip, "wheel", "--no-deps", "-w", str(work / "wheel"), str(source)], work)
        wheel = next((work / "wheel").glob("*.whl"))
        _run([*pip, "install", "--target", str(to), str(wheel)], work)


def _run(command: list[str], folder: Path) -> None:
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if result.returncode:
        told = (result.stdout + result.stderr)[-3000:]
        raise RuntimeError(f"{' '.join(command)} failed ({result.returncode}):\n{told}")
