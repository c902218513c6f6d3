"""Lines of JSON: whole ones only, rotated by size."""

import json
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from differnet_runtime.config import JsonLinesConfig
from differnet_runtime.errors import SinkError
from differnet_runtime.sinks import Stored
from differnet_runtime.sinks.jsonl import JsonLinesSink


def events(first: int, count: int) -> list[Stored]:
    rows = range(first, first + count)
    return [Stored(row, f"{row:032x}", json.dumps({"row": row, "fill": "x" * 80})) for row in rows]


def rows(path: Path) -> list[int]:
    return [json.loads(line)["row"] for line in path.read_text().splitlines()]


def test_lines_are_added(tmp_path: Path) -> None:
    path = tmp_path / "new" / "events.jsonl"
    JsonLinesSink(JsonLinesConfig(path=path)).deliver(events(0, 3))
    JsonLinesSink(JsonLinesConfig(path=path)).deliver(events(3, 2))
    assert rows(path) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("torn", [b'{"row": 7', b"x" * 200_000])
def test_a_torn_last_line_is_cut_off(torn: bytes, tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    sink = JsonLinesSink(JsonLinesConfig(path=path))
    sink.deliver(events(0, 2))
    with path.open("ab") as file:
        file.write(torn)
    sink.deliver(events(2, 1))
    assert rows(path) == [0, 1, 2]


def test_old_files_are_kept_by_number(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    sink = JsonLinesSink(JsonLinesConfig(path=path, max_bytes=4096, keep=2))
    for batch in range(6):
        sink.deliver(events(100 * batch, 50))
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "events.jsonl",
        "events.jsonl.1",
        "events.jsonl.2",
    ]
    firsts = [rows(tmp_path / name)[0] for name in ("events.jsonl.2", "events.jsonl.1")]
    assert firsts == [300, 400]
    assert rows(path)[0] == 500


def test_a_full_disk_leaves_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    sink = JsonLinesSink(JsonLinesConfig(path=path))
    sink.deliver(events(0, 5))
    script = (
        "import resource, signal, sys; from pathlib import Path\n"
        "from tests.runtime.sinks.test_jsonl import deliver_within\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "deliver_within(Path(sys.argv[1]), 1000)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, path], capture_output=True, text=True, check=False
    )
    assert "File too large" in done.stderr
    assert "SinkError" in done.stderr
    assert rows(path) == [0, 1, 2, 3, 4]


def deliver_within(path: Path, limit: int) -> None:
    """Adds more than the file may hold."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    JsonLinesSink(JsonLinesConfig(path=path)).deliver(events(5, 50))


def test_a_folder_in_its_place_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SinkError, match="directory"):
        JsonLinesSink(JsonLinesConfig(path=tmp_path)).deliver(events(0, 1))
