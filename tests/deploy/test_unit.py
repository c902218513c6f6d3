"""The systemd unit: sound, hardened, and cameras and GPUs still within reach."""

from __future__ import annotations

import re
import subprocess
from configparser import RawConfigParser
from pathlib import Path

import pytest

from tests.servers import require

DEPLOY = Path(__file__).parents[2] / "deploy"
UNIT = DEPLOY / "differnet@.service"
MOST_EXPOSED = 2.5


def installed(folder: Path, drop_ins: tuple[str, ...] = ()) -> Path:
    """A copy whose program exists on this machine."""
    text = UNIT.read_text().replace("/opt/differnet/bin/differnet", "/bin/true")
    for name in drop_ins:  # appended: systemd takes a key's last value, as it does of a drop-in
        text = text.replace("[Install]", (DEPLOY / "drop-ins" / name).read_text() + "[Install]")
    path = folder / UNIT.name
    path.write_text(text)
    return path


def values(key: str) -> list[str]:
    return re.findall(rf"^{key}=(.*)$", UNIT.read_text(), re.MULTILINE)


@pytest.mark.parametrize("drop_ins", [(), ("csi.conf",), ("secrets.conf", "csi.conf")])
def test_systemd_finds_nothing_wrong(tmp_path: Path, drop_ins: tuple[str, ...]) -> None:
    analyze = require("systemd-analyze")
    done = subprocess.run(
        [analyze, "verify", "--man=no", installed(tmp_path, drop_ins)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_systemd_finds_nothing_wrong_with_what_wakes_the_gpu() -> None:
    done = subprocess.run(
        [require("systemd-analyze"), "verify", "--man=no", DEPLOY / "differnet-gpu.service"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_systemd_would_find_a_key_that_it_does_not_know(tmp_path: Path) -> None:
    analyze = require("systemd-analyze")
    path = installed(tmp_path)
    path.write_text(path.read_text().replace("RestartSec=", "RestartSeconds="))
    done = subprocess.run(
        [analyze, "verify", "--man=no", path],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert "RestartSeconds" in done.stderr


@pytest.mark.parametrize("drop_ins", [(), ("csi.conf",), ("secrets.conf", "csi.conf")])
def test_it_is_exposed_to_2_5_at_most(tmp_path: Path, drop_ins: tuple[str, ...]) -> None:
    analyze = require("systemd-analyze")
    done = subprocess.run(
        [analyze, "security", "--offline=true", "--no-pager", installed(tmp_path, drop_ins)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    found = re.search(r"Overall exposure level for \S+: (\d+\.\d+)", done.stdout)
    assert found, done.stdout + done.stderr
    assert float(found[1]) <= MOST_EXPOSED


def test_nothing_hides_the_devices_again() -> None:
    assert values("PrivateDevices") == []
    assert values("DevicePolicy") == ["closed"]
    assert {"video", "render"} <= set(values("SupplementaryGroups")[0].split())
    assert values("MemoryDenyWriteExecute") == []  # CUDA and TensorRT compile at run time
    assert values("ProcSubset") == []
    families = set(values("RestrictAddressFamilies")[0].split())
    assert {"AF_UNIX", "AF_INET", "AF_INET6", "AF_NETLINK"} <= families


def test_it_is_started_again_for_ever_and_watched() -> None:
    assert values("Type") == ["notify"]
    assert values("Restart") == ["always"]
    assert values("StartLimitIntervalSec") == ["0"]
    assert values("OOMPolicy") == ["continue"]
    assert values("ExecReload") == ["/bin/kill -HUP $MAINPID"]
    assert int(values("WatchdogSec")[0]) > 30  # a thread counts as hung after 30 s
    assert values("WantedBy") == ["multi-user.target"]


def test_it_can_take_neither_all_memory_nor_endless_processes_and_descriptors() -> None:
    (memory,) = values("MemoryMax")
    assert 50 <= int(memory.removesuffix("%")) <= 90
    assert 1024 < int(values("LimitNOFILE")[0]) <= 65536
    assert int(values("TasksMax")[0]) <= 4096
    assert values("LimitCORE") == ["0"]  # a dump would hold passwords
    assert values("UMask") == ["0027"]


def test_what_the_station_writes_is_writable() -> None:
    example = (DEPLOY / "line3.toml").read_text()
    state = re.search(r'^state = "/var/lib/(.*)"$', example, re.MULTILINE)
    assert state
    assert state[1].replace("line3", "%i") in values("StateDirectory")[0].split()
    cache = values("Environment")[0].partition("=")[2]
    assert cache.startswith(f"/var/cache/{values('CacheDirectory')[0]}/")


@pytest.mark.parametrize("page", ["events.md", "daemon.md", "fleet.md"])
def test_what_the_docs_have_a_station_write_is_writable(page: str) -> None:
    text = (DEPLOY.parent / "docs" / page).read_text()
    written = re.findall(r'^\[jsonl\]\npath = "(/.*?)"', text, re.MULTILINE)
    written += re.findall(r'^state = "(/.*?)"', text, re.MULTILINE)
    folders = [
        f"/var/lib/{name.replace('%i', 'line3')}/" for name in values("StateDirectory")[0].split()
    ]
    assert values("ProtectSystem") == ["strict"]
    for path in written:
        assert path.startswith(tuple(folders))
    assert written or page != "events.md"


def test_the_user_is_made() -> None:
    line = (DEPLOY / "sysusers.d" / "differnet.conf").read_text().split()
    assert line[:2] == ["u", values("User")[0]]


def test_drop_ins_are_of_the_service() -> None:
    for path in (DEPLOY / "drop-ins").glob("*.conf"):
        parser = RawConfigParser(strict=False)
        parser.read(path)
        assert parser.sections() == ["Service"]


def test_a_training_may_do_all_that_it_does() -> None:
    """Its system calls, but for those that everybody may make, were listed with strace."""
    done = subprocess.run(
        [require("systemd-analyze"), "syscall-filter"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    sets: dict[str, list[str]] = {}
    for line in done.stdout.splitlines():
        if line.startswith("@"):
            sets[line.strip()] = names = []
        elif line.strip() and not line.strip().startswith("#"):
            names.append(line.strip())

    def calls(name: str) -> set[str]:
        return {name} if name not in sets else set().union(*map(calls, sets[name]))

    assert values("SystemCallFilter") == ["@system-service", "~@privileged"]
    allowed = calls("@system-service") - calls("@privileged")
    lowered = {"ioprio_set", "setpriority", "setsid", "prctl", "prlimit64"}
    torch = {"mbind", "sched_setaffinity", "sched_yield", "memfd_create", "eventfd2", "linkat"}
    assert lowered | torch <= allowed
    assert {"fsync", "fadvise64", "vfork", "close_range"} <= allowed
