"""What the shell is answered when Tab is pressed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("argcomplete", reason="the extra `completion`")

RUN = "import sys; from differnet_runtime.cli import main; sys.exit(main(sys.argv[1:]))"


def answers(line: str, tmp_path: Path) -> list[str]:
    """Returns what may stand at the end of a line."""
    told = tmp_path / "told"
    environment = {
        "_ARGCOMPLETE": "1",
        "_ARGCOMPLETE_IFS": "\n",
        "_ARGCOMPLETE_SUPPRESS_SPACE": "1",
        "_ARGCOMPLETE_STDOUT_FILENAME": str(told),
        "COMP_LINE": line,
        "COMP_POINT": str(len(line)),
        "COMP_TYPE": "9",
    }
    subprocess.run(
        [sys.executable, "-c", RUN],
        env={**os.environ, **environment},
        check=True,
        timeout=60,
        capture_output=True,
    )
    return told.read_text().split("\n")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("differnet tr", ["train"]),
        ("differnet run --dev", ["--device"]),
        ("differnet run --device ", ["auto", "gpu", "cpu"]),
        ("differnet run --backend onnxruntime-c", ["onnxruntime-cuda", "onnxruntime-cpu"]),
        ("differnet train --recipe edg", ["edge", "edge-global"]),
        ("differnet models act", ["activate"]),
    ],
)
def test_commands_options_and_values_are_completed(
    line: str, expected: list[str], tmp_path: Path
) -> None:
    assert sorted(answers(line, tmp_path)) == sorted(expected)


def test_it_is_imported_only_for_the_shell() -> None:
    code = "from differnet_runtime.cli import main; import sys; main([]); print(*sys.modules)"
    shown = subprocess.run(
        [sys.executable, "-c", code], check=True, timeout=60, capture_output=True, text=True
    ).stdout
    assert "argparse" in shown
    assert not {"argcomplete", "difflib"} & set(shown.split())
