"""Messages name the install line that fits how this copy was installed."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from differnet_runtime import installation
from differnet_runtime.installation import install_line


@pytest.fixture
def recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Lets the installation have another `direct_url.json`, or none."""

    class Recorded:
        def __init__(self, record: dict[str, object] | None) -> None:
            self.record = record

        def read_text(self, name: str) -> str | None:
            assert name == "direct_url.json"
            return None if self.record is None else json.dumps(self.record)

    def install(record: dict[str, object] | None) -> None:
        monkeypatch.setattr(installation, "distribution", lambda name: Recorded(record))

    return install


def test_an_editable_clone_is_named_by_its_folder(recorded, tmp_path: Path) -> None:
    recorded({"url": tmp_path.as_uri(), "dir_info": {"editable": True}})
    assert install_line("train,export") == f"pip install -e '{tmp_path}[train,export]'"
    assert install_line() == f"pip install -e {tmp_path}"


def test_a_clone_that_was_copied_in_stays_a_copy(recorded, tmp_path: Path) -> None:
    recorded({"url": tmp_path.as_uri(), "dir_info": {}})
    assert install_line("rtx") == f"pip install '{tmp_path}[rtx]'"


def test_a_folder_with_blanks_is_one_word(recorded, tmp_path: Path) -> None:
    folder = tmp_path / "my projects"
    folder.mkdir()
    recorded({"url": folder.as_uri(), "dir_info": {}})
    assert shlex.split(install_line("demo")) == ["pip", "install", f"{folder}[demo]"]


def test_a_wheel_is_named_by_its_file(recorded, tmp_path: Path) -> None:
    wheel = tmp_path / "differnet_edge-0.1.0-py3-none-any.whl"
    wheel.touch()
    recorded({"url": wheel.as_uri(), "archive_info": {}})
    assert install_line("service") == f"pip install '{wheel}[service]'"


def test_a_wheel_that_is_gone_is_named_as_one_to_copy_here(recorded, tmp_path: Path) -> None:
    wheel = tmp_path / "differnet_edge-0.1.0-py3-none-any.whl"
    recorded({"url": wheel.as_uri(), "archive_info": {}})
    assert install_line("service") == f"pip install './{wheel.name}[service]'"


def test_a_repository_is_named_by_its_address(recorded) -> None:
    recorded({"url": "https://example.com/x.git", "vcs_info": {"vcs": "git", "commit_id": "1"}})
    assert (
        install_line("train")
        == "pip install 'differnet-edge[train] @ git+https://example.com/x.git'"
    )
    recorded({"url": "https://example.com/x.whl", "archive_info": {}})
    assert (
        install_line("train") == "pip install 'differnet-edge[train] @ https://example.com/x.whl'"
    )


def test_what_an_index_gave_is_asked_for_by_name(recorded) -> None:
    recorded(None)
    assert install_line("train") == "pip install 'differnet-edge[train]'"
