"""A state folder is one station's: seen between two processes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from differnet_runtime.errors import StoreError
from differnet_runtime.files import TakenError, lock_folder, user_of

HOLDER = """
import sys
from pathlib import Path
from differnet_runtime.files import lock_folder
held = lock_folder(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


@contextmanager
def held_elsewhere(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the folder."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()


def test_another_process_is_refused_and_told_whose_folder_it_is(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    with held_elsewhere(folder) as other:
        for _ in range(2):  # having been refused frees nothing
            with pytest.raises(TakenError, match=rf"station\.state.*process {other.pid}\)"):
                lock_folder(folder)
        assert user_of(folder) == f"process {other.pid}"
        with lock_folder(tmp_path / "own"):
            assert user_of(tmp_path / "own") == f"process {os.getpid()}"


def test_a_killed_station_holds_nothing(tmp_path: Path) -> None:
    with held_elsewhere(tmp_path) as other:
        other.kill()
        other.wait()
        assert user_of(tmp_path) is None
        with lock_folder(tmp_path):
            assert user_of(tmp_path) == f"process {os.getpid()}"
    assert user_of(tmp_path) is None


def test_programs_that_the_station_starts_do_not_hold_it(tmp_path: Path) -> None:
    held = lock_folder(tmp_path)
    with subprocess.Popen(
        [sys.executable, "-c", "print('up', flush=True); input()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        close_fds=False,
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"up\n"  # what is not handed on is closed by now
        held.close()
        with lock_folder(tmp_path):
            assert child.poll() is None
        child.kill()


def test_looking_makes_nothing(tmp_path: Path) -> None:
    assert user_of(tmp_path / "none") is None
    assert user_of(tmp_path) is None
    assert not list(tmp_path.iterdir())


def test_a_folder_that_can_not_be_made_is_an_error_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="Not a directory") as raised:
        lock_folder(tmp_path / "file" / "state")
    assert not isinstance(raised.value, TakenError)
