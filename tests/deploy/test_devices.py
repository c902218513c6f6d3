"""The unit's device rules against the devices that Jetsons have, as public lists record them."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest

from differnet_runtime.config.loading import tomllib

UNIT = Path(__file__).parents[2] / "deploy" / "differnet@.service"
MACHINES = sorted(Path(__file__).with_name("devices").glob("*.toml"))
FIXED = {"mem": 1, "misc": 10, "input": 13, "fb": 29, "video4linux": 81, "usb_device": 189}
FIXED |= {"nvidia": 195, "drm": 226}
"""Numbers of the kernel's own list (Documentation/admin-guide/devices.txt); others are dynamic."""


def rules() -> list[str]:
    found = re.findall(r"^DeviceAllow=(\S+) rw$", UNIT.read_text(), re.MULTILINE)
    assert len(found) == len(re.findall(r"^DeviceAllow=", UNIT.read_text(), re.MULTILINE))
    return found


def reaches(rule: str, node: str, group: str) -> bool:
    """Whether a rule allows a node, as systemd reads it: by path, number, or a glob of the name."""
    if rule.startswith("/dev/"):
        return rule == node
    wanted = rule.removeprefix("char-")
    if wanted.isdigit():
        return FIXED.get(group) == int(wanted)
    return fnmatchcase(group, wanted)


def nodes(machine: dict[str, Any], *tables: str) -> list[tuple[str, str]]:
    return [
        (node, group)
        for table in tables
        for group, listed in machine[table].items()
        for node in listed
    ]


@pytest.fixture(params=MACHINES, ids=lambda path: path.stem)
def machine(request: pytest.FixtureRequest) -> dict[str, Any]:
    return tomllib.loads(request.param.read_text())


def test_jetpack_6_and_7_are_recorded() -> None:
    names = {path.stem for path in MACHINES}
    assert {"orin_jetpack_6_2", "orin_jetpack_7_2", "thor_jetpack_7_2", "discrete"} == names


def test_every_node_that_is_needed_is_reachable(machine: dict[str, Any]) -> None:
    wanted = nodes(machine, "needed", "cameras")
    hidden = [n for n, group in wanted if not any(reaches(r, n, group) for r in rules())]
    assert hidden == []


def test_nothing_else_is(machine: dict[str, Any]) -> None:
    open_ones = [
        (node, rule)
        for node, group in nodes(machine, "others")
        for rule in rules()
        if reaches(rule, node, group)
    ]
    assert open_ones == []


def test_each_list_names_public_sources(machine: dict[str, Any]) -> None:
    assert machine["sources"]
    assert all(source.startswith("https://") for source in machine["sources"])


def test_no_rule_is_without_a_use() -> None:
    machines = [tomllib.loads(path.read_text()) for path in MACHINES]
    known = [pair for one in machines for pair in nodes(one, "needed", "cameras")]
    idle = [rule for rule in rules() if not any(reaches(rule, *pair) for pair in known)]
    assert idle == ["/dev/v4l2-nvdec"]  # a decoder, for streams


def test_a_name_that_matches_nothing_would_be_found() -> None:
    """What was in the unit before: nvgpu's nodes are not of a group nvhost."""
    for rule in ("char-nvhost*", "char-nvgpu*", "/dev/nvhost-ctrl"):
        assert not reaches(rule, "/dev/nvhost-ctrl-gpu", "17000000.gpu")
    assert reaches("char-17000000.gpu", "/dev/nvhost-ctrl-gpu", "17000000.gpu")


def test_the_gpu_is_awake_before_a_station_starts() -> None:
    text = UNIT.read_text()
    for key in ("Wants", "After"):
        assert re.search(rf"^{key}=.*\bdiffernet-gpu\.service\b", text, re.MULTILINE)
    helper = UNIT.with_name("differnet-gpu.service").read_text()
    assert "ConditionPathExists=/dev/nvgpu/igpu0/power" in helper
