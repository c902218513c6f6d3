"""One random fault after another: the station never ends, always comes back, loses no event."""

import contextlib
import os
import random
import signal
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from benchmarks import machine
from tests.broker import Broker, Listener, listening
from tests.fakes.clips import Clip
from tests.fakes.disk import full_disk, own_disk
from tests.fakes.rtsp import RtspCamera, rtsp_camera
from tests.fakes.running import RunningStation
from tests.fakes.usage import descendants, usage

BACK_S = 20.0
"""After the end of a fault: reconnecting, a start of the engine, and a busy machine."""


class Line:
    """A station with its cameras, its broker and a disk of its own, and all that can befall it."""

    def __init__(
        self, station: RunningStation, cameras: list[RtspCamera], broker: Broker, faults: Path
    ) -> None:
        self.station, self._cameras, self._broker, self._faults = station, cameras, broker, faults
        self._good = station.config.read_text()

    def faults(self) -> dict[str, Callable[[random.Random], None]]:
        """Returns each fault by name; it is over when the function returns."""
        return {
            "camera hangs": self._camera_hangs,
            "camera is off": self._camera_is_off,
            "capture process dies": lambda r: self._kill_child(r, "capture.child"),
            "capture process hangs": lambda r: self._stop_child(r, "capture.child"),
            "engine process dies": lambda r: self._kill_child(r, "inference.child"),
            "engine process hangs": lambda r: self._stop_child(r, "inference.child"),
            "engine fault": self._engine_fault,
            "broker hangs": self._broker_hangs,
            "broker dies": self._broker_dies,
            "disk is full": self._disk_is_full,
            "wrong configuration": self._wrong_configuration,
            "reload": lambda _: self.station.signal(signal.SIGHUP),
            "garbage over HTTP": self._garbage,
        }

    def _camera_hangs(self, chance: random.Random) -> None:
        camera = chance.choice(self._cameras)
        camera.freeze()
        time.sleep(3.0)
        camera.thaw()

    def _camera_is_off(self, chance: random.Random) -> None:
        camera = chance.choice(self._cameras)
        camera.kill()
        time.sleep(2.0)
        camera.start()

    def _children(self, module: str) -> list[int]:
        found = []
        for pid in descendants(self.station.process.pid):
            with contextlib.suppress(OSError):
                if module in Path(f"/proc/{pid}/cmdline").read_text():
                    found.append(pid)
        return found

    def _kill_child(self, chance: random.Random, module: str) -> None:
        if children := self._children(module):
            with contextlib.suppress(ProcessLookupError):
                os.kill(chance.choice(children), chance.choice([signal.SIGKILL, signal.SIGSEGV]))

    def _stop_child(self, chance: random.Random, module: str) -> None:
        if children := self._children(module):
            with contextlib.suppress(ProcessLookupError):
                os.kill(chance.choice(children), signal.SIGSTOP)

    def _engine_fault(self, chance: random.Random) -> None:
        self._faults.write_text(chance.choice(["hang", "raise", "segfault", "nan", "shape"]))

    def _broker_hangs(self, _: random.Random) -> None:
        self._broker.pause()
        time.sleep(3.0)
        self._broker.resume()

    def _broker_dies(self, _: random.Random) -> None:
        self._broker.kill()
        time.sleep(2.0)
        self._broker.start()

    def _disk_is_full(self, _: random.Random) -> None:
        with full_disk(self.station):
            time.sleep(3.0)

    def _wrong_configuration(self, _: random.Random) -> None:
        self.station.config.write_text(self._good + "\n[camera.top\n")
        self.station.signal(signal.SIGHUP)
        time.sleep(1.0)
        self.station.config.write_text(self._good)
        self.station.signal(signal.SIGHUP)

    def _garbage(self, chance: random.Random) -> None:
        for _ in range(20):
            with contextlib.suppress(OSError), socket.socket() as client:
                client.settimeout(1.0)
                client.connect(("127.0.0.1", self.station.port))
                client.sendall(chance.randbytes(200) + b"\r\n\r\n")
                client.recv(100)


@pytest.fixture
def line(tmp_path: Path) -> Iterator[tuple[Line, Listener]]:
    faults = tmp_path / "faults"
    with contextlib.ExitStack() as stack:
        cameras = [stack.enter_context(rtsp_camera(Clip())) for _ in range(2)]
        # It dies, too: without a memory, what comes before the listener is back would reach nobody.
        broker = stack.enter_context(Broker(tmp_path / "broker", remembers=True))
        listener = stack.enter_context(
            listening(broker.port, "differnet/line/#", session="listener")
        )
        tables = (
            "".join(
                f'[camera.{name}]\nsource = "{camera.url}"\ninterval_ms = 100\n'
                for name, camera in zip(("top", "side"), cameras, strict=True)
            )
            + f'[mqtt]\nhost = "127.0.0.1"\nport = {broker.port}\n'
            + "[evidence]\nmax_bytes = 4000000\nmin_free_bytes = 1000000\n"
        )
        model = f'backend = "fake:10ms,faults={faults}"'
        command = own_disk(tmp_path / "state")
        station = stack.enter_context(
            RunningStation(tmp_path, tables, model=model, command=command)
        )
        station.wait(station.ready, what="ready")
        yield Line(station, cameras, broker, faults), listener


def well(station: RunningStation) -> bool:
    """Whether everything works, and every event is delivered."""
    status, overview = station.get("/api/overview")
    return status == 200 and overview["health"]["ready"] and not overview["health"]["degraded"]


def delivered(station: RunningStation) -> bool:
    status, overview = station.get("/api/overview")
    return status == 200 and all(sink["pending"] == 0 for sink in overview["sinks"])


@pytest.mark.parametrize(
    ("duration_s", "every_s", "report"),
    [
        pytest.param(40, 4.0, None, id="short"),
        pytest.param(1800, 10.0, "soak_faults", id="half-an-hour", marks=pytest.mark.slow),
    ],
)
def test_it_survives_one_fault_after_another(
    duration_s: int, every_s: float, report: str | None, line: tuple[Line, Listener]
) -> None:
    (it, listener), seed = line, int(os.environ.get("DIFFERNET_FAULT_SEED", "1"))
    chance, station = random.Random(seed), it.station
    before = usage(station.process.pid)
    counted: Counter[str] = Counter()
    ring: set[str] = set()
    until = time.monotonic() + duration_s
    order: list[str] = []
    while time.monotonic() < until:
        begun = time.monotonic()
        order = order or chance.sample(sorted(it.faults()), len(it.faults()))
        name = order.pop()
        counted[name] += 1
        it.faults()[name](chance)
        assert station.process.poll() is None, f"{name} ended it:\n{station.tail()}"
        with contextlib.suppress(TypeError, KeyError):
            recent = station.get("/api/events?limit=200")[1]
            ring |= {entry["event"]["id"] for entry in recent["events"]}
        time.sleep(max(0.0, every_s - (time.monotonic() - begun)))
    back_s = station.wait(lambda: well(station), BACK_S, "well again")
    station.wait(lambda: delivered(station), BACK_S, "delivered")
    after = usage(station.process.pid)
    overview = station.get("/api/overview")[1]
    before_the_stop = {event["id"] for event in station.events()}
    with contextlib.suppress(AssertionError):  # what is missing is told below
        station.wait(lambda: before_the_stop <= listener.ids(), BACK_S)
    assert station.process.poll() is None, station.tail()
    stopped_s = station.stop()
    written = station.events()
    by_id = {event["id"]: event for event in written}
    missing = [by_id[i] for i in before_the_stop - listener.ids()]
    found = {
        "seconds": duration_s,
        "seed": seed,
        "faults": dict(sorted(counted.items())),
        "verdicts": dict(
            Counter(e["verdict"] for e in by_id.values() if e["type"] == "inspection")
        ),
        "codes": dict(Counter(str(e["code"]) for e in by_id.values() if e.get("reject"))),
        "events": len(by_id),
        "duplicates": len(written) - len(by_id),
        "lost": {
            "dropped": overview["outbox"]["dropped"],
            "seen_but_not_written": len(ring - by_id.keys()),
            "written_but_not_published": len(missing),
        },
        "back_s": back_s,
        "stopped_s": stopped_s,
        "private_memory_mib": [before.private_mib, after.private_mib],
        "descriptors": [before.descriptors, after.descriptors],
        "threads": [before.threads, after.threads],
        "exits": 0,
        "stuck": 0,
    }
    if report is not None:
        machine.write(report, found)
    assert set(found["lost"].values()) == {0}, (found, missing[:3])
    assert station.process.returncode == 0
    assert stopped_s < 5.0
    assert found["verdicts"]["GOOD"] > duration_s
