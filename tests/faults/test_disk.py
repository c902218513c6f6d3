"""A disk that is really full, and a process that is killed while it writes."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.servers import require

FULL = Path(__file__).with_name("full_disk.py")
KILLED = Path(__file__).with_name("killed_stores.py")


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What outbox and evidence did on a file system of 12 MiB."""
    folder = tmp_path_factory.mktemp("disk")
    unshare = require("unshare")
    mount = ["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(folder)]
    probe = subprocess.run([unshare, "-m", *mount], capture_output=True, text=True, check=False)
    if probe.returncode != 0:
        pytest.skip(f"a file system can't be mounted here ({probe.stderr.strip()}); run as root")
    script = f'{" ".join(mount)} && exec "$0" "$@"'
    command = [unshare, "-m", "sh", "-c", script, sys.executable, str(FULL), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_events_wait_in_memory_while_the_disk_is_full(seen: dict[str, Any]) -> None:
    outbox = seen["outbox"]
    assert "make room" in outbox["at_start"] or "look at the disk" in outbox["at_start"]
    assert "full" in outbox["said"]
    assert outbox["longest_s"] < 0.25
    assert outbox["waiting"] == 10_000
    assert outbox["complete"]
    assert outbox["in_order"]
    assert outbox["latest"] == 15_000
    assert outbox["integrity"] == "ok"


def test_pictures_give_way_on_a_full_disk_and_come_again(seen: dict[str, Any]) -> None:
    evidence = seen["evidence"]
    assert evidence["at_start"] is not None
    assert evidence["problem_while_own_fill"] is None
    assert evidence["count"] > 10
    assert evidence["said"] is not None
    assert evidence["longest_s"] < 0.25
    assert evidence["integrity"] == "ok"


@pytest.mark.parametrize(
    ("kills", "report"),
    [
        pytest.param(20, None, id="short"),
        pytest.param(200, "soak_kills", id="full", marks=pytest.mark.slow),
    ],
)
def test_a_kill_at_any_moment_leaves_nothing_torn(
    kills: int, report: str | None, tmp_path: Path
) -> None:
    command = [sys.executable, KILLED, tmp_path, str(kills), "7"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    found = json.loads(done.stdout)
    if report is not None:
        from benchmarks.machine import write

        write(report, found)
    assert found["damaged"] == found["orphan_rows"] == found["unswept_files"] == 0
    assert found["set_aside"] == 0
    assert found["kept"] > 0
    assert found["kills"] == kills
