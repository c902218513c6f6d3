"""The whole station as a process: it starts, is told things, is changed, and always stops."""

import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.broker import Broker, listening
from tests.fakes.clock import SteppedClock
from tests.fakes.running import RunningStation
from tests.servers import free_port

STOP_S = 5.0
HOUR_S, YEAR_S = 3600, 365 * 86400
FOLDER = '[camera.top]\nsource = "{source}"\n'


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder of three noisy pictures, 90, 110 and 130 bright."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number, brightness in enumerate((90, 110, 130)):
        write_picture(folder / f"{number}.png", brightness)
    return folder


def write_picture(path: Path, brightness: int) -> None:
    noise = np.random.RandomState(brightness).normal(brightness, 9, (120, 160, 3))
    partial = path.with_name(f".{path.name}")
    partial.write_bytes(cv2.imencode(".png", noise.clip(0, 255).astype(np.uint8))[1].tobytes())
    long_ago(partial)
    partial.rename(path)


def long_ago(path: Path) -> None:
    """Gives a file a time at which nobody can be writing it any more."""
    os.utime(path, (time.time() - 60, time.time() - 60))


def inspections(station: RunningStation) -> list[dict[str, object]]:
    return station.events("inspection")


def test_it_starts_with_every_camera_absent_and_begins_when_they_come(
    tmp_path: Path, pictures: Path
) -> None:
    late = tmp_path / "late"
    tables = (
        FOLDER.format(source=late)
        + f'kind = "folder"\n[camera.side]\nsource = "rtsp://127.0.0.1:{free_port()}/none"\n'
    )
    with RunningStation(tmp_path, tables) as station:
        station.wait(lambda: station.get("/readyz")[0] == 503, what="not ready")
        station.wait(lambda: station.camera("side").get("state") == "lost", what="lost")
        station.wait(
            lambda: station.says("camera:side") and station.says("camera:top"), what="both reasons"
        )
        pictures.rename(late)
        station.wait(lambda: len(inspections(station)) >= 3, what="verdicts")
        verdicts = {event["verdict"] for event in inspections(station) if event["camera"] == "top"}
        assert "GOOD" in verdicts
        assert station.stop() < STOP_S


def test_a_command_gets_a_verdict_on_a_frame_that_is_younger(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "belt.avi")
    tables = (
        f'[camera.top]\nsource = "{clip}"\npaced = true\ntrigger = "command"\n'
        f'[camera.gone]\nsource = "rtsp://127.0.0.1:{free_port()}/none"\ntrigger = "command"\n'
        "deadline_ms = 1500\n"
    )
    with RunningStation(tmp_path, tables) as station:
        station.wait(lambda: station.camera("top").get("state") == "running", what="frames")
        station.wait(lambda: engine_is_ready(station), what="the engine")
        for number in range(3):
            asked_s = time.time()
            status, event = station.post("/api/cameras/top/trigger", {"part": f"A-{number}"})
            assert (status, event["verdict"]) == (200, "GOOD")
            assert (event["part"], event["trigger"]) == (f"A-{number}", "http")
            assert event["frame"]["captured_at_s"] >= asked_s
        begun = time.monotonic()
        status, event = station.post("/api/cameras/gone/trigger", {"part": "A-3"})
        assert time.monotonic() - begun < 4.0
        assert (event["verdict"], event["reject"]) == ("NO_DECISION", True)
        assert event["code"] in ("deadline", "camera_lost")


def engine_is_ready(station: RunningStation) -> bool:
    return bool(station.get("/api/overview")[1]["engine"]["state"] == "ready")


def test_two_stations_do_not_share_a_state_folder(tmp_path: Path, pictures: Path) -> None:
    with RunningStation(tmp_path, FOLDER.format(source=pictures)) as station:
        station.wait(station.ready, what="ready")
        (tmp_path / "other").mkdir()
        other = RunningStation(tmp_path / "other", FOLDER.format(source=pictures))
        text = other.config.read_text()
        other.config.write_text(
            text.replace(str(tmp_path / "other" / "state"), str(tmp_path / "state"))
        )
        with other:
            assert other.process.wait(30.0) == 2
            assert "station.state" in other.tail()
        assert station.ready()


def test_pictures_in_a_folder_can_not_be_commanded(tmp_path: Path, pictures: Path) -> None:
    tables = FOLDER.format(source=pictures) + 'trigger = "command"\n'
    with RunningStation(tmp_path, tables) as station:
        assert station.process.wait(30.0) == 2
        assert "camera.top.trigger" in station.tail()


def test_a_page_that_can_not_be_moved_stays_where_it_is(tmp_path: Path, pictures: Path) -> None:
    with (
        RunningStation(tmp_path, FOLDER.format(source=pictures)) as station,
        socket.create_server(("127.0.0.1", 0)) as taken,
    ):
        station.wait(station.ready, what="ready")
        written = station.config.read_text()
        port = taken.getsockname()[1]
        station.config.write_text(written.replace(f"port = {station.port}", f"port = {port}"))
        station.signal(signal.SIGHUP)
        station.wait(lambda: station.says(str(port)), what="the port as a reason")
        station.config.write_text(written)
        station.signal(signal.SIGHUP)
        station.wait(lambda: station.degraded() is False, what="well again")


def test_a_reload_changes_what_changed_and_a_wrong_file_changes_nothing(
    tmp_path: Path, pictures: Path
) -> None:
    tables = FOLDER.format(source=pictures)
    with RunningStation(tmp_path, tables) as station:
        station.wait(lambda: len(inspections(station)) == 3, what="verdicts")
        station.write(tables, 'backend = "fake:5ms"\nthreshold = 10.0')
        station.signal(signal.SIGHUP)
        station.wait(lambda: station.get("/api/overview")[1]["threshold"] == 10.0, what="reload")
        write_picture(pictures / "3.png", 90)
        station.wait(lambda: len(inspections(station)) == 4, what="a fourth verdict")
        assert inspections(station)[-1]["verdict"] == "DEFECT"

        station.write(tables + "thershold = 3\n")
        station.signal(signal.SIGHUP)
        station.wait(lambda: station.says("thershold"), what="the key as a reason")
        write_picture(pictures / "4.png", 90)
        station.wait(lambda: len(inspections(station)) == 5, what="a fifth verdict")
        assert inspections(station)[-1]["verdict"] == "DEFECT"

        more = tmp_path / "more"
        more.mkdir()
        write_picture(more / "0.png", 100)
        station.write(tables + f'[camera.side]\nsource = "{more}"\n')
        station.signal(signal.SIGHUP)
        station.wait(lambda: len(inspections(station)) == 6, what="the new camera's verdict")
        last = inspections(station)[-1]
        assert (last["camera"], last["verdict"]) == ("side", "GOOD")
        station.wait(lambda: station.degraded() is False, what="well again")


@pytest.fixture
def black_hole() -> Iterator[int]:
    """A port that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.mark.parametrize("fault", ["engine hangs", "camera hangs", "broker hangs", "page is open"])
def test_it_stops_within_five_seconds_in_any_fault(
    fault: str, tmp_path: Path, pictures: Path, black_hole: int
) -> None:
    tables, model = FOLDER.format(source=pictures), 'backend = "fake:5ms"'
    if fault == "engine hangs":
        model = 'backend = "fake:hang@2"\ndeadline_ms = 60000'
    if fault == "camera hangs":
        tables += f'[camera.side]\nsource = "rtsp://127.0.0.1:{black_hole}/x"\nstall_s = 60\n'
    if fault == "broker hangs":
        tables += f'[mqtt]\nhost = "127.0.0.1"\nport = {black_hole}\n'
    with RunningStation(tmp_path, tables, model=model) as station, socket.socket() as stream:
        station.wait(lambda: len(inspections(station)) >= 1, what="a verdict")
        if fault == "page is open":
            stream.connect(("127.0.0.1", station.port))
            host = f"Host: 127.0.0.1:{station.port}"
            stream.sendall(f"GET /api/cameras/top/live.mjpg HTTP/1.1\r\n{host}\r\n\r\n".encode())
            assert stream.recv(12) == b"HTTP/1.1 200"
        time.sleep(1.0)
        assert station.stop() < STOP_S
        assert station.process.returncode == 0, station.tail()


def test_steps_of_the_clock_stall_nothing(tmp_path: Path) -> None:
    clock = SteppedClock(tmp_path)
    clip = write_clip(tmp_path / "belt.avi")
    tables = f'[camera.top]\nsource = "{clip}"\npaced = true\n[mqtt]\nhost = "127.0.0.1"\n'
    with RunningStation(tmp_path, tables, environment=clock.environment) as station:
        stamps, started = [], station.wait_judging()
        for offset_s in (2 * HOUR_S, -HOUR_S, 10 * YEAR_S, -3 * YEAR_S, 0):
            clock.step(offset_s)
            seen = len(inspections(station))
            station.wait(lambda: len(inspections(station)) > seen + 20, what="verdicts")  # noqa: B023
            stamps.append(inspections(station)[-1]["at_s"])
        assert max(stamps) - min(stamps) > 12 * YEAR_S, "the clock was not stepped"
        states = {
            event["state"]
            for event in station.events("state")
            if event["component"].startswith(("camera", "engine"))
        }
        assert states == {"starting", "ok"}
        since = [(e["verdict"], e["code"]) for e in inspections(station)[started:]]
        assert set(since) == {("GOOD", None)}
        assert station.stop() < STOP_S


def write_clip(path: Path, seconds: float = 4.0) -> Path:
    """A clip of moving noise, which never repeats."""
    random = np.random.RandomState(1)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25, (160, 120))
    for _ in range(int(seconds * 25)):
        writer.write(random.randint(60, 160, (120, 160, 3)).astype(np.uint8))
    writer.release()
    return path


def test_killed_at_any_moment_it_loses_no_event(tmp_path: Path, pictures: Path) -> None:
    broker = Broker(tmp_path / "broker")
    clip = write_clip(tmp_path / "belt.avi")
    tables = (
        f'[camera.top]\nsource = "{clip}"\npaced = true\n'
        f'[mqtt]\nhost = "127.0.0.1"\nport = {broker.port}\n'
    )
    for _ in range(3):
        with RunningStation(tmp_path, tables) as station:
            seen = len(inspections(station))
            station.wait(lambda: len(inspections(station)) > seen + 15, what="verdicts")  # noqa: B023
            station.process.send_signal(signal.SIGKILL)
            station.process.wait(5.0)
    written = {event["id"] for event in station.events()}
    with (
        broker,
        listening(broker.port, "differnet/line/#") as listener,
        RunningStation(tmp_path, tables) as station,
    ):
        station.wait(lambda: written <= listener.ids(), what="all events")
        assert station.stop() < STOP_S


def test_a_second_signal_ends_it_at_once(tmp_path: Path, pictures: Path) -> None:
    with RunningStation(tmp_path, FOLDER.format(source=pictures)) as station:
        station.wait(station.ready, what="ready")
        os.kill(station.process.pid, signal.SIGSTOP)
        for _ in range(2):
            station.signal(signal.SIGTERM)
        station.signal(signal.SIGINT)
        os.kill(station.process.pid, signal.SIGCONT)
        station.process.wait(STOP_S)
