import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from differnet_runtime import gpu
from differnet_runtime.errors import BackendUnavailableError

LIBRARY = """
#include <stdio.h>
int cuInit(unsigned flags) {{ return {init}; }}
int cuGetErrorString(int code, const char **text) {{ *text = "no CUDA-capable device"; return 0; }}
int cuDeviceGetCount(int *count) {{ *count = {count}; return 0; }}
int cuDriverGetVersion(int *version) {{ *version = 12060; return 0; }}
int cuDeviceGet(int *device, int index) {{ *device = 7 + index; return 0; }}
int cuDeviceGetName(char *name, int length, int device)
{{ return device == 7 ? snprintf(name, length, "Orin (nvgpu)") < 0 : 101; }}
int cuDeviceTotalMem_v2(size_t *bytes, int device) {{ *bytes = 6ull << 30; return device - 7; }}
int cuDeviceGetAttribute(int *value, int attribute, int device)
{{ *value = attribute == 75 ? 8 : attribute == 76 ? 7 : -1; return device - 7; }}
"""


@pytest.fixture
def a_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Returns a function that puts a driver of a few lines of C in the place of NVIDIA's."""
    if shutil.which("cc") is None:
        pytest.skip("no C compiler")

    def install(init: int = 0, count: int = 1) -> None:
        source = tmp_path / "driver.c"
        source.write_text(LIBRARY.format(init=init, count=count))
        library = tmp_path / "libcuda.so.1"
        command = ["cc", "-shared", "-fPIC", "-o", str(library), str(source)]
        subprocess.run(command, check=True, timeout=60)
        monkeypatch.setattr(gpu, "LIBRARY", str(library))

    return install


def test_the_first_gpu_is_described(a_driver: Callable[..., None]) -> None:
    a_driver()
    assert gpu.find_gpu() == gpu.Gpu("Orin (nvgpu)", (8, 7), 6 << 30, (12, 6))


def test_without_a_driver_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "LIBRARY", "libcuda_that_is_not_here.so.1")
    with pytest.raises(BackendUnavailableError, match=r"not_here\.so\.1.*install its driver"):
        gpu.find_gpu()


def test_a_driver_that_does_not_answer_is_quoted(a_driver: Callable[..., None]) -> None:
    a_driver(init=100)
    with pytest.raises(BackendUnavailableError, match=r"cuInit says no CUDA-capable.*error 100"):
        gpu.find_gpu()


def test_a_driver_without_a_gpu_is_no_gpu(a_driver: Callable[..., None]) -> None:
    a_driver(count=0)
    with pytest.raises(BackendUnavailableError, match="finds no GPU"):
        gpu.find_gpu()
