"""Strangers at the page of a station that inspects: it gives its verdicts, and answers."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from contextlib import ExitStack, closing
from http.client import HTTPConnection
from pathlib import Path

from differnet_runtime.station.health_socket import ask
from tests.fakes.running import RunningStation
from tests.fakes.usage import Usage, descendants, usage
from tests.faults.test_station import write_clip
from tests.servers import require

DESCRIPTORS = 256
ATTACK_S = 300
"""At most: it ends when all was seen."""

NEIGHBOUR = "127.0.0.2"
"""An address that attacks nobody."""

ASKED = 50
SLOW = ("engine_starting", "deadline", "engine_timeout")
"""Codes of the first frames, and of a machine that has too much to do."""

ATTACKS = {"silent": 300, "half_head": 100, "unread": 40, "viewer": 40, "command": 400}


def attacked(station: RunningStation, stack: ExitStack) -> dict[str, subprocess.Popen[bytes]]:
    """Starts an attacker of each kind; each has begun when this returns."""
    arguments = ("nice", "-n", "19", sys.executable, "-m", "benchmarks.attackers")
    begun = {
        kind: stack.enter_context(
            subprocess.Popen(
                [*arguments, kind, "127.0.0.1", str(station.port), str(count), str(ATTACK_S)],
                stdout=subprocess.PIPE,
            )
        )
        for kind, count in ATTACKS.items()
    }
    for one in begun.values():
        assert one.stdout is not None
        assert one.stdout.readline() == b"begun\n"
    return begun


def test_strangers_cost_no_verdict_no_event_and_no_descriptor(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "belt.avi")
    tables = (
        f'[camera.top]\nsource = "{clip}"\npaced = true\n'
        f'[camera.command]\nsource = "{clip}"\npaced = true\ntrigger = "command"\n'
        '[evidence]\nkeep = "all"\nmin_free_bytes = 0\n'
    )
    limit = (require("prlimit"), f"--nofile={DESCRIPTORS}:{DESCRIPTORS}")
    with RunningStation(tmp_path, tables, command=limit) as station, ExitStack() as stack:
        station.wait(station.ready, what="ready")
        station.wait(lambda: station.get("/api/evidence?limit=1")[1]["entries"], what="a picture")
        before = usage(station.process.pid)
        attackers = attacked(station, stack)
        station.wait(lambda: trouble(station, "sender_full") > 100, what="the attack")
        killed = kill_a_capture(station)
        asked = 0
        while asked < ASKED or not captures(station) > killed:
            assert any(one.poll() is None for one in attackers.values())
            assert neighbour_is_answered(station.port)
            assert ask(tmp_path / "state", "/livez", 5.0) == 200
            asked += 1
        for one in attackers.values():
            one.terminate()
        # All commands may be refused until the others end: they share one address.
        done = {kind: json.loads(one.communicate()[0])["done"] for kind, one in attackers.items()}
        assert all(done[kind] >= count for kind, count in ATTACKS.items() if kind != "command")
        assert done["command"] > 0
        station.wait(station.ready, what="ready again")
        station.wait(
            lambda: is_back(before, usage(station.process.pid)), what="no more than before"
        )
        counted, dropped = judged(station)
        station.stop()
        check_nothing_lost(station, counted, dropped)
        assert len(station.log.read_text().splitlines()) <= 100


def neighbour_is_answered(port: int) -> bool:
    """Whether the page says that it lives to somebody at another address."""
    with closing(HTTPConnection("127.0.0.1", port, 10, source_address=(NEIGHBOUR, 0))) as page:
        page.request("GET", "/livez")
        return page.getresponse().status == 200


def captures(station: RunningStation) -> set[int]:
    return {
        pid
        for pid in descendants(station.process.pid)
        if b"differnet_runtime.capture" in Path(f"/proc/{pid}/cmdline").read_bytes()
    }


def kill_a_capture(station: RunningStation) -> set[int]:
    """Kills one; returns those that are left."""
    found = captures(station)
    os.kill(killed := found.pop(), signal.SIGKILL)
    station.wait(lambda: killed not in captures(station), what="the end of a capture process")
    return found


def trouble(station: RunningStation, kind: str) -> int:
    status, overview = station.get("/api/overview")
    return overview["web"]["troubles"][kind] if status == 200 else 0


def is_back(before: Usage, now: Usage) -> bool:
    return now.descriptors <= before.descriptors and now.threads <= before.threads


def judged(station: RunningStation) -> tuple[int, int]:
    """Returns how many verdicts were given and how many events dropped until now."""
    _, metrics = station.get("/metrics")
    verdicts = re.findall(r"^differnet_verdicts_total\{.*\} (\S+)$", metrics, re.MULTILINE)
    dropped = re.search(r"^differnet_outbox_dropped_events_total (\S+)$", metrics, re.MULTILINE)
    assert verdicts
    assert dropped
    return int(sum(map(float, verdicts))), int(float(dropped[1]))


def check_nothing_lost(station: RunningStation, counted: int, dropped: int) -> None:
    """Every verdict was written once, and only a killed capture withheld one."""
    events = station.events("inspection")
    assert len({one["id"] for one in events}) == len(events) >= counted
    assert dropped == 0
    codes = {one["code"] for one in events if one["verdict"] == "NO_DECISION"}
    assert codes <= {"camera_lost", "camera_stalled", "stale", *SLOW, "stopped"}, codes
