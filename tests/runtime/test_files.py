"""What is tried beforehand is what would fail later, and nothing is left behind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from differnet_runtime.errors import OutputError
from differnet_runtime.files import try_appending, try_file, try_folder, write_bytes

TRIED: list[tuple[str, Callable[[Path], None], str]] = [
    ("folder", try_file, "folder is a folder; the name of a file is expected"),
    ("file/new", try_file, "file is a file, where a folder is needed"),
    ("n" * 250, try_file, "File name too long"),
    ("/dev/null", try_file, "/dev/null is a device or a pipe"),
    ("file", try_folder, "file is a file, where a folder is needed"),
    ("n" * 300, try_folder, "File name too long"),
    ("folder", try_appending, "folder is a folder; the name of a file is expected"),
    ("file/new", try_appending, "file is a file, where a folder is needed"),
]


@pytest.fixture
def there(tmp_path: Path) -> Path:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_bytes(b"old")
    return tmp_path


@pytest.mark.parametrize(("name", "attempt", "message"), TRIED)
def test_what_can_not_be_written_is_told(
    name: str, attempt: Callable[[Path], None], message: str, there: Path
) -> None:
    with pytest.raises(OutputError) as caught:
        attempt(there / name)
    assert message in str(caught.value)


@pytest.mark.parametrize("name", ["new", "file", "new/below/below", "folder/new"])
@pytest.mark.parametrize("attempt", [try_file, try_appending])
def test_what_can_be_written_is_not_touched(
    name: str, attempt: Callable[[Path], None], there: Path
) -> None:
    before = sorted(there.rglob("*"))
    attempt(there / name)
    assert sorted(there.rglob("*")) == before
    assert (there / "file").read_bytes() == b"old"
    write_bytes(there / name, b"new")
    assert (there / name).read_bytes() == b"new"


@pytest.mark.parametrize("name", ["folder", "new", "folder/new/below"])
def test_a_folder_that_can_be_written_is_not_made(name: str, there: Path) -> None:
    before = sorted(there.rglob("*"))
    try_folder(there / name)
    assert sorted(there.rglob("*")) == before


def test_a_log_may_be_a_device() -> None:
    try_appending(Path("/dev/null"))


def test_a_link_beside_a_file_is_not_written_through(tmp_path: Path) -> None:
    names: set[str] = set()
    for _ in range(2):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Path, "replace", lambda partial, _path: names.add(partial.name))
            write_bytes(tmp_path / "part.png", b"new")
    first, second = names  # another name each time
    (tmp_path / first).unlink()
    (tmp_path / first).symlink_to(tmp_path / "elsewhere")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("differnet_runtime.files._partial", lambda _: tmp_path / first)
        with pytest.raises(OutputError, match="File exists"):
            write_bytes(tmp_path / "part.png", b"new")
    assert not (tmp_path / "elsewhere").exists()
    assert second.endswith(".partial")
