"""Child processes: what they say, how they end, and that nothing of them is left."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import BaseModel, TypeAdapter

from differnet_runtime.processes import Child
from tests.runtime.waiting import wait_for

CHILD = """
import os, sys, time
from pydantic import BaseModel
from differnet_runtime.processes import PACKET, join_parent, send

class Note(BaseModel):
    text: str

channel, argument = join_parent()
with channel:
    send(channel, Note(text=f"{argument} {os.getcwd()} {os.listdir()}"))
    while packet := channel.recv(PACKET):
        text = Note.model_validate_json(packet).text
        if text == "die":
            print("the last words of user:secret@host")
            sys.exit(3)
        if text == "hang":
            print("hangs", flush=True)
            time.sleep(300)
        send(channel, Note(text=text[::-1]))
"""

STARTER = """
import sys, time
from pydantic import BaseModel
from differnet_runtime.processes import Child

class Note(BaseModel):
    text: str

child = Child("echoing", title="the child")
child.send(Note(text="hang"))
while child.said != "hangs":
    time.sleep(0.01)
print(child.pid, flush=True)
time.sleep(300)
"""


class Note(BaseModel):
    text: str


NOTE = TypeAdapter(Note)


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a module that answers each note with its text reversed."""
    (tmp_path / "echoing.py").write_text(CHILD)
    paths = os.pathsep.join(filter(None, (str(tmp_path), os.environ.get("PYTHONPATH"))))
    monkeypatch.setenv("PYTHONPATH", paths)
    return "echoing"


def note(child: Child) -> str:
    answer = child.receive(NOTE, 60.0)
    assert answer is not None
    return answer.text


def test_a_child_is_talked_to_and_its_end_is_told_in_words(module: str) -> None:
    heard: list[str] = []
    child = Child(
        module,
        "hello",
        title="the child",
        redact=lambda text: text.replace("secret", "***"),
        heard=heard.append,
    )
    with contextlib.closing(child):
        hello, folder, content = note(child).split()
        assert (hello, content) == ("hello", "[]")
        child.send(Note(text="abc"))
        assert note(child) == "cba"
        assert child.receive(NOTE, 0.01) is None
        child.send(Note(text="die"))
        with pytest.raises(EOFError):
            child.receive(NOTE, 60.0)
        assert child.wait() == 3
        wait_for(lambda: heard == ["the last words of user:***@host"])
        assert child.death().endswith("the last words of user:***@host")
        assert "3" in child.death()
    assert not Path(folder).exists()


@pytest.mark.parametrize("way", [Child.kill, lambda child: child.end(60.0)])
def test_a_child_is_ended_and_its_folder_goes(way: Callable[[Child], None], module: str) -> None:
    with contextlib.closing(Child(module, "x", title="the child")) as child:
        folder = Path(note(child).split()[1])
        way(child)
        assert child.code in (-signal.SIGKILL, -signal.SIGTERM)
        assert f"SIG{'KILL' if way is Child.kill else 'TERM'}" in child.death()
        assert not folder.exists()
        with pytest.raises((EOFError, OSError)):
            child.receive(NOTE, 60.0)


@pytest.mark.usefixtures("module")
def test_a_child_that_hangs_ends_with_its_parent() -> None:
    parent = subprocess.Popen([sys.executable, "-c", STARTER], stdout=subprocess.PIPE, text=True)
    with parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.kill()
    wait_for(lambda: not _runs(pid))


def _runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"
