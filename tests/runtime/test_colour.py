from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout

import pytest

from differnet_runtime.cli import main
from differnet_runtime.command import warn
from differnet_runtime.commands.checking import Checked, CheckFinding
from differnet_runtime.commands.diagnosing import DiagnosisLine as Found
from differnet_runtime.commands.diagnosing import as_text
from differnet_runtime.commands.output import HEADER, table_line
from differnet_runtime.logs import PrintableFormatter
from differnet_runtime.records import Decision, Inspection, Verdict
from differnet_runtime.text import coloured, shows_colour

RED, GREEN, YELLOW, OFF = "\x1b[1;31m", "\x1b[32m", "\x1b[33m", "\x1b[0m"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")


@contextmanager
def on(stream: io.StringIO) -> Iterator[io.StringIO]:
    """Sends standard output and standard error there."""
    with redirect_stdout(stream), redirect_stderr(stream):
        yield stream


@pytest.mark.parametrize(
    ("environment", "pipe", "screen"),
    [
        ({}, False, True),
        ({"NO_COLOR": "1"}, False, False),
        ({"NO_COLOR": ""}, False, True),  # as the convention says: only if it is not empty
        ({"TERM": "dumb"}, False, False),
        ({"FORCE_COLOR": "1"}, True, True),
        ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, False, False),
    ],
)
def test_where_colour_is_shown(
    environment: dict[str, str], pipe: bool, screen: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert shows_colour(io.StringIO()) is pipe
    assert shows_colour(Terminal()) is screen
    assert (coloured("GOOD", "good", Terminal()) == f"{GREEN}GOOD{OFF}") is screen


def test_a_stream_that_is_closed_or_gone_shows_none() -> None:
    closed = Terminal()
    closed.close()
    assert not shows_colour(closed)
    assert not shows_colour(None)


@pytest.mark.parametrize(
    ("verdict", "colour"),
    [(Verdict.GOOD, GREEN), (Verdict.DEFECT, RED), (Verdict.NO_DECISION, YELLOW)],
)
def test_a_verdict_has_its_colour_and_the_table_keeps_its_columns(
    verdict: Verdict, colour: str
) -> None:
    inspection = Inspection("part.png", 0, 0.0, Decision(verdict, "why"))
    with on(Terminal()):
        line = table_line(inspection)
    assert line.startswith(f"{colour}{verdict.value}{OFF} ")
    assert line.replace(colour, "").replace(OFF, "").index("part.png") == HEADER.index("name")


def test_an_error_is_red_on_a_terminal_and_plain_in_a_pipe() -> None:
    with on(Terminal()) as terminal:
        assert main(["info", "missing.onnx"]) == 2
        assert terminal.getvalue().startswith(f"{RED}differnet:{OFF} missing.onnx: No such file")
        with pytest.raises(SystemExit):
            main(["trian"])
        assert f"{RED}differnet:{OFF} there is no command" in terminal.getvalue()
    with on(io.StringIO()) as pipe:
        assert main(["info", "missing.onnx"]) == 2
    assert "\x1b" not in pipe.getvalue()


def test_warnings_are_yellow() -> None:
    with on(Terminal()) as terminal:
        warn("look")
    assert terminal.getvalue() == f"{YELLOW}warning:{OFF} look\n"


def record(level: int) -> logging.LogRecord:
    return logging.LogRecord("differnet_runtime.x", level, "x.py", 1, "it runs", (), None)


def test_a_logs_level_is_in_colour_and_a_commands_message_whole() -> None:
    log, own = PrintableFormatter("%(levelname)s %(message)s"), PrintableFormatter()
    with on(Terminal()):
        assert log.format(record(logging.WARNING)) == f"{YELLOW}WARNING{OFF} it runs"
        assert log.format(record(logging.ERROR)) == f"{RED}ERROR{OFF} it runs"
        assert log.format(record(logging.INFO)) == "INFO it runs"
        assert own.format(record(logging.WARNING)) == f"{YELLOW}it runs{OFF}"
    with on(io.StringIO()):
        assert log.format(record(logging.WARNING)) == "WARNING it runs"


def test_a_message_with_codes_of_its_own_is_escaped_before_it_is_coloured() -> None:
    found = record(logging.WARNING)
    found.msg = "camera \x1b[2J"
    with on(Terminal()):
        assert PrintableFormatter().format(found) == f"{YELLOW}camera \\x1b[2J{OFF}"


def test_what_is_checked_and_examined_has_its_colour() -> None:
    checked = Checked((), (CheckFinding("model", "wrong", "x"), CheckFinding("web", "ok", "y")))
    findings = [Found("python", "ok", "3.12"), Found("gpu", "missing", "no driver")]
    with on(Terminal()):
        lines, text = checked.as_text().splitlines(), as_text(findings, {}, None)
    assert lines[:2] == [f"{RED}WRONG{OFF}  model  x", f"{GREEN}ok{OFF}     web    y"]
    assert f"  {GREEN}ok{OFF}       python" in text
    assert f"  {YELLOW}missing{OFF}  gpu" in text
