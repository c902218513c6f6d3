"""`differnet doctor --unit`: what a confinement hides, with commands that stand in for systemd."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from differnet_runtime import confinement as module
from differnet_runtime.cli import main
from differnet_runtime.confinement import (
    OpenableDevices,
    UnitReport,
    compare,
    confining,
    see,
    try_unit,
)
from differnet_runtime.errors import ConfigError

UNIT = Path(__file__).parents[2] / "deploy" / "differnet@.service"
CLOSED = "the unit does not allow it (DeviceAllow=)"


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for the commands, in which the unit is known and systemd runs."""
    (tmp_path / "running").mkdir()
    monkeypatch.setattr(module, "_SYSTEMD_RUNS", tmp_path / "running")
    monkeypatch.setattr(module.os, "geteuid", lambda: 0)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    command(tmp_path / "systemctl", f"cat '{UNIT}'")
    return tmp_path


def command(path: Path, body: str) -> None:
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


def answers(folder: Path, seen: OpenableDevices) -> None:
    text = json.dumps({"nodes": seen.nodes, "gpu": seen.gpu})
    command(folder / "systemd-run", f"echo \"$@\" > '{folder}/asked'\necho '{text}'")


def test_the_units_confinement_and_nothing_else_is_taken_over() -> None:
    text = UNIT.read_text() + "\n[Service]\nPrivateTmp=no\n"
    taken = confining(text)
    assert {"User=differnet", "DevicePolicy=closed", "DeviceAllow=/dev/nvmap rw"} <= set(taken)
    assert {"ProtectHome=yes", "SystemCallFilter=~@privileged", "CapabilityBoundingSet="} <= set(
        taken
    )
    assert taken[-1] == "PrivateTmp=no"  # a drop-in's, after the unit's
    assert not [line for line in taken if line.startswith(("Exec", "Restart=", "Type", "Watchdog"))]
    assert "RestrictRealtime=yes" in taken
    count = len([line for line in UNIT.read_text().splitlines() if line.startswith("DeviceAllow=")])
    assert len([line for line in taken if line.startswith("DeviceAllow=")]) == count


def test_what_is_hidden_is_named(systemd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outside = {"/dev/nvmap": None, "/dev/nvhost-gpu": None, "/dev/nvhost-old-gpu": "No such device"}
    monkeypatch.setattr(module, "see", lambda: OpenableDevices(outside, None))
    answers(systemd, OpenableDevices({**outside, "/dev/nvhost-gpu": CLOSED}, "cuInit says 801"))
    report = try_unit("differnet@line3.service")
    assert report == UnitReport(
        "differnet@line3.service", None, {"/dev/nvhost-gpu": CLOSED}, "cuInit says 801", None
    )
    assert not report.sound
    asked = (systemd / "asked").read_text()
    assert "--property=DeviceAllow=char-17000000.gpu rw" in asked
    assert f"{sys.executable} -m differnet_runtime.confinement" in asked


def test_a_unit_that_hides_nothing_is_sound() -> None:
    nodes: dict[str, str | None] = {"/dev/nvmap": None}
    assert compare("u", OpenableDevices(nodes, None), OpenableDevices(nodes, None)).sound
    assert compare("u", OpenableDevices({}, "no driver"), OpenableDevices({}, "no driver")).sound
    assert not compare("u", OpenableDevices(nodes, None), OpenableDevices(nodes, "no GPU")).sound
    assert compare("u", OpenableDevices(nodes, None), OpenableDevices({}, None)).hidden == {
        "/dev/nvmap": "it is not there"
    }


def test_where_systemd_does_not_run_that_is_said(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(module, "_SYSTEMD_RUNS", tmp_path / "not here")
    report = try_unit()
    assert not report.sound
    assert "systemd does not run here" in (report.not_run or "")


def test_others_than_root_are_told(systemd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.os, "geteuid", lambda: 1000)
    assert "only root" in (try_unit().not_run or "")


def test_a_unit_that_is_not_installed_is_an_error(systemd: Path) -> None:
    command(systemd / "systemctl", "echo 'No files found.' >&2; exit 1")
    with pytest.raises(ConfigError, match=r"no unit differnet@doctor.service \(No files found.\)"):
        try_unit()


def test_a_program_that_does_not_start_under_it_is_told(systemd: Path) -> None:
    command(systemd / "systemd-run", "echo 'status=203/EXEC' >&2; exit 203")
    report = try_unit()
    assert "does not run under it (status=203/EXEC)" in (report.not_run or "")
    assert "/opt/differnet" in (report.not_run or "")


def test_nodes_are_opened_and_those_of_debuggers_left_alone(tmp_path: Path) -> None:
    for name in (
        *("nvmap", "nvhost-gpu", "nvhost-dbg-gpu", "nvhost-prof-ctx-gpu", "nvhost-nvsched-gpu"),
        *("nvgpu/igpu0/ctrl", "nvgpu/igpu0/sched", "dri/renderD128", "dri/card0", "nvidia0"),
    ):
        path = tmp_path / "dev" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "dev" / "nvidiactl").mkdir()  # can't be opened for writing
    seen = see(tmp_path)
    names = {node.removeprefix(f"{tmp_path}/dev/"): reason for node, reason in seen.nodes.items()}
    opened = {name for name, reason in names.items() if reason is None}
    wanted = {"nvmap", "nvhost-gpu", "nvhost-nvsched-gpu", "nvgpu/igpu0/ctrl", "nvidia0"}
    assert opened == wanted | {"dri/renderD128"}
    assert names.keys() - opened == {"nvidiactl"}
    assert seen.gpu is not None


def test_the_command_shows_it(
    systemd: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "see", lambda: OpenableDevices({"/dev/nvmap": None}, None))
    answers(systemd, OpenableDevices({"/dev/nvmap": CLOSED}, "cuInit says 801."))
    assert main(["doctor", "--unit"]) == 1
    shown = capsys.readouterr().out
    assert "unit differnet@doctor.service" in shown
    assert "hidden   /dev/nvmap" in shown
    assert "cuInit says 801. Outside the unit CUDA starts." in " ".join(shown.split())
    answers(systemd, OpenableDevices({"/dev/nvmap": None}, None))
    assert main(["doctor", "--unit", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["unit"]["sound"]
