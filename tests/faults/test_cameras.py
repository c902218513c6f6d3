"""Cameras that freeze, vanish, come back, crash and talk nonsense: real servers, real signals."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.machine import write
from differnet_runtime.capture.messages import CameraState
from differnet_runtime.capture.process import CaptureProcess
from differnet_runtime.config.models import CameraConfig
from tests.fakes.clips import Clip
from tests.fakes.rtsp import RtspCamera, rtsp_camera
from tests.faults.capturing import (
    capture,
    children,
    memory_kib,
    next_frame,
    open_files,
    wait_for_state,
)
from tests.runtime.waiting import wait_for
from tests.servers import free_port, require

LIVE, STALLED, LOST = CameraState.LIVE, CameraState.STALLED, CameraState.LOST
REPORTED_S, BACK_S, STOPPED_S = 3.0, 5.0, 2.0


def freeze_and_thaw(camera: RtspCamera, process: CaptureProcess) -> tuple[float, float]:
    """Returns after how long the stop was reported, and after how long frames came again."""
    next_frame(process)
    camera.freeze()
    try:
        reported_s = wait_for_state(process, STALLED, LOST)
        assert process.status.reason is not None
        assert "no new frame for 2 s" in process.status.reason
        time.sleep(random.uniform(0, 3))
        while process.wait(0):
            process.take()
    finally:
        camera.thaw()
    begun = time.monotonic()
    next_frame(process)
    assert process.status.state is LIVE
    return reported_s, time.monotonic() - begun


def test_a_frozen_camera_is_reported_and_comes_back() -> None:
    with rtsp_camera(Clip()) as camera, capture(camera.url) as process:
        for count in range(1, 4):
            reported_s, back_s = freeze_and_thaw(camera, process)
            assert reported_s < REPORTED_S
            assert back_s < BACK_S
            assert process.status.reconnects == count


def test_a_camera_that_is_killed_comes_back_with_another_size() -> None:
    with rtsp_camera(Clip()) as camera, capture(camera.url) as process:
        assert next_frame(process).image.shape == (240, 320, 3)
        camera.kill()
        assert wait_for_state(process, LOST) < REPORTED_S
        camera.clip = Clip(width=480, height=360)
        camera.start()
        begun = time.monotonic()
        while next_frame(process).image.shape != (360, 480, 3):
            pass
        assert time.monotonic() - begun < BACK_S
        status = process.status
        assert (status.width, status.height, status.reconnects) == (480, 360, 1)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_a_capture_process_that_dies_is_started_again(number: signal.Signals) -> None:
    with capture(Clip().folder / "clip.mp4", paced=True) as process:
        next_frame(process)
        pid = process.status.pid
        assert pid
        os.kill(pid, number)
        wait_for(lambda: process.status.reconnects == 1)
        next_frame(process)
        assert process.status.pid not in (pid, None)


def reconnect(process: CaptureProcess, camera: RtspCamera, *, kill: bool) -> None:
    wait_for(lambda: process.status.pid is not None)  # none between two lives
    before = process.status
    if kill:
        assert before.pid is not None
        os.kill(before.pid, signal.SIGKILL)
    else:
        camera.hang_up()
    wait_for(lambda: process.status.reconnects > before.reconnects, 15.0)


def reconnects(count: int, every_kill: int) -> dict[str, Any]:
    """Reconnects again and again, and returns what grew."""
    with rtsp_camera(Clip()) as camera, capture(camera.url) as process:
        next_frame(process)
        for number in range(4):
            reconnect(process, camera, kill=number % 2 == 1)
        next_frame(process)
        others = children() - {process.status.pid}
        before = open_files(), threading.active_count(), memory_kib(os.getpid())
        begun = time.monotonic()
        for number in range(count):
            reconnect(process, camera, kill=number % every_kill == 0)
            if process.wait(0):
                process.take()
        next_frame(process)
        return {
            "reconnects": count,
            "of them by a killed process": len(range(0, count, every_kill)),
            "seconds": round(time.monotonic() - begun, 1),
            "more descriptors": open_files() - before[0],
            "more threads": threading.active_count() - before[1],
            "more memory, KiB": memory_kib(os.getpid()) - before[2],
            "more child processes": len(children() - {process.status.pid} - others),
            "memory of the capture process, KiB": memory_kib(process.status.pid or 0),
        }


def check_growth(grown: dict[str, Any], memory_kib: int) -> None:
    assert grown["more descriptors"] <= 0
    assert grown["more threads"] <= 0
    assert grown["more child processes"] == 0
    assert grown["more memory, KiB"] < memory_kib


def test_reconnects_leak_nothing() -> None:
    check_growth(reconnects(12, every_kill=4), 4096)


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_a_thousand_reconnects_leak_nothing() -> None:
    grown = reconnects(1000, every_kill=5)
    write("camera_reconnects", {"camera_reconnects": grown})
    check_growth(grown, 8192)


def test_all_cameras_absent_at_the_start(tmp_path: Path) -> None:
    camera = RtspCamera(Clip())
    camera.kill()
    absent = [camera.url, "97", str(tmp_path / "later"), f"rtsp://127.0.0.1:{free_port()}/none"]
    with contextlib.ExitStack() as stack:
        begun = time.monotonic()
        processes = [stack.enter_context(capture(source)) for source in absent]
        assert time.monotonic() - begun < 1
        for process in processes:
            wait_for_state(process, LOST, within_s=30)
            assert process.status.reason
        camera.start()
        stack.callback(camera.kill)
        begun = time.monotonic()
        next_frame(processes[0])
        assert time.monotonic() - begun < BACK_S
        (tmp_path / "later").mkdir()
        wait_for_state(processes[2], LIVE)
        assert [process.status.state for process in processes] == [LIVE, LOST, LIVE, LOST]


@contextlib.contextmanager
def listening(answer: bytes | None) -> Iterator[str]:
    """Something that takes connections; it says nothing, or the same nonsense to everyone."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.1)
        over = threading.Event()

        def serve() -> None:
            connections = []
            while not over.is_set():
                with contextlib.suppress(OSError):
                    connection = server.accept()[0]
                    connections.append(connection)
                    if answer is not None:
                        connection.sendall(answer)
                        connection.close()
            for connection in connections:
                connection.close()

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"127.0.0.1:{server.getsockname()[1]}"
        finally:
            over.set()
            thread.join()


def test_a_host_that_never_answers_is_lost_not_waited_for() -> None:
    with listening(None) as host, capture(f"rtsp://u:secret@{host}/x") as process:
        wait_for_state(process, LOST, within_s=20)
        status = process.status
        assert "the stream can't be opened" in str(status.reason)
        assert "secret" not in f"{status}"
        begun = time.monotonic()
        process.stop()
        assert time.monotonic() - begun < STOPPED_S


def nonsense(kind: str) -> bytes:
    chance = random.Random(kind)
    head = b"RTSP/1.0 200 OK\r\nCSeq: 1\r\n"
    body = chance.randbytes(20_000)
    return {
        "bytes": body,
        "body": head + b"Content-Length: 20000\r\n\r\n" + body,
        "length": head + b"Content-Length: -9999999999\r\n\r\n",
        "line": b"RTSP/1.0 " + b"A" * 20_000,
        "packets": head + b"\r\n" + b"".join(b"$\x00\xff\xff" + body for _ in range(4)),
    }[kind]


def test_nonsense_from_a_server_is_a_named_error() -> None:
    with contextlib.ExitStack() as stack:
        processes = {}
        for kind in ("bytes", "body", "length", "line", "packets"):
            host = stack.enter_context(listening(nonsense(kind)))
            processes[host] = stack.enter_context(capture(f"rtsp://{host}/camera"))
        for process in processes.values():
            wait_for_state(process, LOST, within_s=30)
        before = [process.status.pid for process in processes.values()]
        time.sleep(2)
        for host, process in processes.items():
            assert f"rtsp://{host}/camera: the stream can't be opened" in str(process.status.reason)
            assert process.status.frames == 0
        assert [process.status.pid for process in processes.values()] == before  # none crashed


def test_nonsense_within_a_stream_does_not_end_it() -> None:
    with rtsp_camera(Clip(), garbage=0.2) as camera, capture(camera.url) as process:
        wait_for(lambda: process.status.frames > 20, 20.0)
        pid = process.status.pid
        wait_for(lambda: process.status.frames > 60, 20.0)
        assert process.status.pid == pid


def test_it_stops_at_once_in_every_state(tmp_path: Path) -> None:
    require("ffmpeg")
    clip = Clip().folder / "clip.mp4"
    with listening(None) as host:
        states = [
            (str(clip), {"paced": True}, LIVE),
            (str(clip), {"paced": True}, CameraState.STARTING),
            (str(tmp_path), {}, LIVE),
            (str(clip), {}, LIVE),  # waits for its first frame to be taken
            (f"rtsp://{host}/x", {}, CameraState.STARTING),
            (f"rtsp://127.0.0.1:{free_port()}/x", {}, LOST),
        ]
        for source, options, state in states:
            with capture(source, **options) as process:
                wait_for_state(process, state)
                time.sleep(0.3 if state is not CameraState.STARTING else 0)
                begun = time.monotonic()
                process.stop()
                assert time.monotonic() - begun < STOPPED_S
                assert process.status.state is CameraState.STOPPED
                assert process.status.pid is None
                process.stop()


def test_a_stalled_camera_is_stopped_at_once() -> None:
    with rtsp_camera(Clip()) as camera, capture(camera.url, stall_s=0.5) as process:
        next_frame(process)
        camera.freeze()
        wait_for_state(process, STALLED, LOST)
        begun = time.monotonic()
        process.stop()
        assert time.monotonic() - begun < STOPPED_S


def test_one_that_was_never_started_can_be_stopped() -> None:
    process = CaptureProcess("camera", CameraConfig(source="0"))
    assert process.status.state is CameraState.STOPPED
    process.stop()
    assert not process.wait(0)
    assert process.take() is None
