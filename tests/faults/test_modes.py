"""What a station writes can't be read by others, whoever starts it and however."""

from __future__ import annotations

import stat
from pathlib import Path

from tests.fakes.running import RunningStation
from tests.fakes.usage import descendants
from tests.faults.test_station import write_clip

NO_UMASK = ("sh", "-c", 'umask 000; exec "$@"', "sh")


def test_nothing_of_the_state_folder_can_be_read_by_others(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "belt.avi")
    tables = (
        f'[camera.top]\nsource = "{clip}"\npaced = true\n'
        '[evidence]\nkeep = "all"\nmin_free_bytes = 0\n'
        f'[jsonl]\npath = "{tmp_path / "events.jsonl"}"\nmax_bytes = 4096\n'
    )
    state = tmp_path / "state"
    with RunningStation(tmp_path, tables, command=NO_UMASK) as station:
        station.wait(lambda: list(state.rglob("*.jpg")), what="evidence")
        station.wait(lambda: list(tmp_path.glob("events.jsonl.*")), what="a rotated file")
        written = [state, *state.rglob("*"), *tmp_path.glob("events.jsonl*")]
        kinds = {stat.S_IFMT(path.lstat().st_mode) for path in written}
        children = descendants(station.process.pid)
        masks = {umask(pid) for pid in (station.process.pid, *children)}
    assert kinds >= {stat.S_IFDIR, stat.S_IFREG, stat.S_IFSOCK}
    assert {path.suffix for path in written} >= {".sqlite", ".jpg"}
    assert [str(path) for path in written if open_to_others(path)] == []
    assert len(children) >= 2  # camera and engine
    assert masks == {0o027}


def open_to_others(path: Path) -> bool:
    try:
        return bool(path.lstat().st_mode & stat.S_IRWXO)
    except FileNotFoundError:  # a database has taken its own log in
        return False


def umask(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("Umask:")[2].split()[0], 8)
