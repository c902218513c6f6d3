from pathlib import Path

import numpy as np
import pytest

from differnet_runtime.benchmark.report import describe, doubt, peak_memory_mib, temperatures


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_a_jetson_says_board_governor_and_temperatures(tmp_path: Path) -> None:
    write(tmp_path / "proc/device-tree/model", "NVIDIA Jetson Orin Nano Developer Kit\0")
    write(tmp_path / "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "schedutil\n")
    for zone, (kind, value) in enumerate([("cpu-thermal", "48250"), ("gpu-thermal", "-1500")]):
        write(tmp_path / f"sys/class/thermal/thermal_zone{zone}/type", f"{kind}\n")
        write(tmp_path / f"sys/class/thermal/thermal_zone{zone}/temp", f"{value}\n")
    write(tmp_path / "sys/class/thermal/thermal_zone2/type", "cv0-thermal\n")  # it is off
    found = describe(tmp_path)
    assert found["board"] == "NVIDIA Jetson Orin Nano Developer Kit"
    assert found["governor"] == "schedutil"
    assert temperatures(tmp_path) == {"cpu-thermal": 48.25, "gpu-thermal": -1.5}


def test_power_mode_is_what_nvpmodel_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "nvpmodel"
    program.write_text("#!/bin/sh\necho 'NV Power Mode: MAXN_SUPER'\necho 2\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert describe()["power_mode"] == "MAXN_SUPER"


def test_elsewhere_there_is_nothing_to_say(tmp_path: Path) -> None:
    found = describe(tmp_path)
    assert (found["board"], found["power_mode"], found["governor"]) == (None, None, None)
    assert temperatures(tmp_path) is None
    assert found["cores"] > 0


@pytest.mark.parametrize(
    ("load", "governor", "said"),
    [
        (0.1, None, None),
        (0.1, "performance", None),
        (0.1, "powersave", "follows the load"),
        (3.0, None, "too high"),
    ],
)
def test_a_doubt_is_said(load: float, governor: str | None, said: str | None) -> None:
    found = doubt({"load": load, "cores": 4, "governor": governor})
    assert found is None if said is None else said in str(found)


def test_memory_that_was_used_counts_after_it_was_freed() -> None:
    before = peak_memory_mib()
    held = np.ones(200 * 2**20, np.uint8)
    del held
    assert peak_memory_mib() >= before
    assert peak_memory_mib() > 200
