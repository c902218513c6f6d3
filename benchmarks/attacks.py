"""What strangers at the page cost a station that inspects.

    python -m benchmarks.attacks             (about 10 minutes; needs the default model)
    python -m benchmarks.attacks --seconds 10 --rounds 1

Rounds without and with attackers take turns, a fresh station of the default model in each: a video
of 30 frames a second, and a camera that the line commands once a second and that takes four, every
picture kept as evidence, events to a file and to a broker. The page needs a token. The attackers,
all under `nice -n 19`, hold as many connections as said in `attacks` and replace those that the
station closes. `tokenless` sends commands without the token; `unread`, `viewer` and `command` have
it. Asked meanwhile, from an address that attacks nobody: the line's commands and `/livez`; and the
health socket.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

from differnet_runtime.station.health_socket import ask
from tests.broker import Broker, Listener, listening
from tests.fakes.running import RunningStation
from tests.fakes.usage import usage

from . import machine
from .default_model import default_model
from .station_of_cells import write_video

SIZE = (640, 480)
NEIGHBOUR = "127.0.0.2"
ASK_EVERY_S = 0.5
SETTLE_S = 5.0
COMMAND_EVERY_S, MOST_COMMANDS_PER_S = 1.0, 4
TOKEN = "0123456789abcdef-of-the-benchmark"  # noqa: S105 - of a station that lives for a minute
RIGHT = {"Authorization": f"Bearer {TOKEN}"}
KEPT = ("verdicts", "mqtt_events", "evidence", "line_verdicts")


def attacks() -> dict[str, int]:
    """Returns connections (of `command`: requests) by kind; silent ones as the machine allows."""
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    more = max(0, min(1100, soft - 1100 - 200))
    return {
        "silent": 1100 + more,
        "half_head": 256,
        "unread": 200,
        "viewer": 50,
        "command": 20_000,
        "tokenless": 20_000,
    }


@contextmanager
def attacked(port: int, seconds: float, counts: dict[str, int]) -> Iterator[dict[str, Any]]:
    """Attacks meanwhile; what is yielded holds, at the end, what was done by kind."""
    done: dict[str, Any] = {}
    run = ("nice", "-n", "19", sys.executable, "-m", "benchmarks.attackers")
    with ExitStack() as stack:
        processes = {
            kind: stack.enter_context(
                subprocess.Popen(
                    [*run, kind, "127.0.0.1", str(port), str(count), str(seconds)],
                    stdout=subprocess.PIPE,
                    env={**os.environ, "TOKEN": TOKEN},
                    start_new_session=True,
                )
            )
            for kind, count in counts.items()
        }
        for process in processes.values():
            with contextlib.suppress(OSError):  # where sessions share the processor by halves
                Path(f"/proc/{process.pid}/autogroup").write_text("19")
        yield done
        for kind, process in processes.items():
            done[kind] = json.loads(process.communicate()[0].splitlines()[-1])["done"]


def tables(clip: Path, broker: Broker) -> str:
    """Returns the station's cameras and sinks."""
    return (
        f'[camera.top]\nsource = "{clip}"\npaced = true\nintegrity = {{ size = "any" }}\n'
        f'[camera.command]\nsource = "{clip}"\npaced = true\ntrigger = "command"\n'
        f"max_commands_per_s = {MOST_COMMANDS_PER_S}\n"
        'integrity = { size = "any" }\n'
        '[evidence]\nkeep = "all"\n'
        f'[mqtt]\nhost = "127.0.0.1"\nport = {broker.port}\n'
    )


def one_round(folder: Path, clip: Path, seconds: float, counts: dict[str, int]) -> dict[str, Any]:
    """Runs a station for a while, attacked or (no `counts`) not; returns its figures."""
    token = folder / "token"
    token.touch(0o600)
    token.write_text(TOKEN)
    model = f'path = "{default_model()}"\nbackend = "onnxruntime-cpu"\nthreads = 1\nthreshold = 1e9'
    with (
        Broker(folder / "broker") as broker,
        listening(broker.port) as heard,
        RunningStation(
            folder, tables(clip, broker), model=model, web=f'token_file = "{token}"'
        ) as station,
        Line(station.port) as line,
    ):
        station.wait(lambda: len(heard.ids()) > 30, what="events")
        before = usage(station.process.pid)
        with attacked(station.port, seconds + SETTLE_S, counts) as done:
            time.sleep(SETTLE_S)
            figures = watched(station, heard, line, seconds)
        time.sleep(SETTLE_S)
        after = usage(station.process.pid)
    return {
        **figures,
        "attack": done,
        "descriptors": {"before": before.descriptors, "after": after.descriptors},
        "threads": {"before": before.threads, "after": after.threads},
    }


class Line:
    """Sends the line's own commands, and counts what becomes of them."""

    def __init__(self, port: int) -> None:
        self.judged = 0
        self.answered_s: list[float] = []
        self._port, self._stopping = port, threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Line:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        due_s = time.monotonic()
        while not self._stopping.wait(max(0.0, due_s - time.monotonic())):
            due_s += COMMAND_EVERY_S
            self.answered_s.append(timed(self._command))
            self.judged += self.answered_s[-1] < float("inf")

    def _command(self) -> bool:
        headers = {"Content-Type": "application/json", **RIGHT}
        with closing(HTTPConnection("127.0.0.1", self._port, 10, (NEIGHBOUR, 0))) as page:
            page.request("POST", "/api/cameras/command/trigger", b"{}", headers)
            answer = json.load(page.getresponse())
        return bool(answer.get("verdict") in ("GOOD", "DEFECT"))


def watched(station: RunningStation, heard: Listener, line: Line, seconds: float) -> dict[str, Any]:
    """Counts for a while what a station does, and asks whether it lives."""
    first, start = counted(station, heard, line), time.monotonic()
    begun = len(line.answered_s)
    answers: dict[str, list[float]] = {"health_socket": [], "page": []}
    while time.monotonic() < start + seconds:
        socket_s = timed(lambda: ask(station.folder / "state", "/livez", 10.0) == 200)
        answers["health_socket"].append(socket_s)
        answers["page"].append(timed(lambda: page_lives(station.port)))
        time.sleep(ASK_EVERY_S)
    took_s = time.monotonic() - start
    last, commands_s = counted(station, heard, line), line.answered_s[begun:]
    return {
        "per_second": {name: (last[name] - first[name]) / took_s for name in first},
        "livez_s": {
            name: {"asked": len(each), "median": statistics.median(each), "longest": max(each)}
            for name, each in answers.items()
        },
        "line_command_s": {
            "asked": len(commands_s),
            "median": statistics.median(commands_s),
            "longest": max(commands_s),
        },
    }


def counted(station: RunningStation, heard: Listener, line: Line) -> dict[str, int]:
    """Returns what there is of the video's camera so far, of the line's commands, and of all."""
    every = [one for one in station.events("inspection") if one["verdict"] != "NO_DECISION"]
    judged = {one["id"] for one in every if one["camera"] == "top"}
    pictures = (station.folder / "state" / "evidence").glob("*/*.small.jpg")
    kept = judged & {path.name.partition(".")[0] for path in pictures}
    return {
        "verdicts": len(judged),
        "mqtt_events": len(judged & heard.ids()),
        "evidence": len(kept),
        "line_verdicts": line.judged,
        "all_verdicts": len(every),
        "log_bytes": station.log.stat().st_size,
    }


def timed(ask_once: Callable[[], bool]) -> float:
    """Returns the seconds that an answer took; infinity for none."""
    start = time.monotonic()
    with contextlib.suppress(OSError, HTTPException):
        if ask_once():
            return time.monotonic() - start
    return float("inf")


def page_lives(port: int) -> bool:
    """Asks the page from an address that attacks nobody."""
    with closing(HTTPConnection("127.0.0.1", port, 10, source_address=(NEIGHBOUR, 0))) as page:
        page.request("GET", "/livez", headers=RIGHT)
        return page.getresponse().status == 200


def main() -> None:
    """Measures and writes results/attacks.json."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    counts = attacks()
    found: dict[str, list[dict[str, Any]]] = {"quiet": [], "attacked": []}
    for _ in range(given.rounds):
        for name, each in (("quiet", {}), ("attacked", counts)):
            with tempfile.TemporaryDirectory() as folder:
                clip = write_video(Path(folder) / "belt.avi", SIZE)
                found[name].append(one_round(Path(folder), clip, given.seconds, each))
                print(name, json.dumps(found[name][-1]), flush=True)
    rates = {
        name: {
            what: statistics.median(one["per_second"][what] for one in each)
            for what in each[0]["per_second"]
        }
        for name, each in found.items()
    }
    kept = {what: rates["attacked"][what] / rates["quiet"][what] for what in KEPT}
    machine.write("attacks", {"attacks": counts, "kept_share": kept, "medians": rates, **found})


if __name__ == "__main__":
    main()
