"""Whatever an option is given, it is taken or refused in one line, before any work begins."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from differnet_runtime import cli
from differnet_runtime.command import Command
from tests.command_line import actions_of, exclusive_groups

Captured = pytest.CaptureFixture[str]
Parsers = Mapping[tuple[str, ...], argparse.ArgumentParser]

ABSURD = (
    "",
    " ",
    "nan",
    "inf",
    "-inf",
    "-1",
    "0",
    "0.5",
    "1e400",
    "1e-400",
    "9" * 30,
    "9" * 5000,
    "²",
    "größe/部品",
    "\udcff",
    "a\nb",
    "1,2,3",
    "0x0",
    "(",
    "%s{0}$(ls)",
    "there",
    "there/file",
    "there/file/below",
    "missing",
)
"""`there` is a folder, `there/file` a file."""

NEEDED = {
    "--data": "there",
    "--output": "new",
    "--images": "there",
    "--camera": "0",
    "model": "there/file",
    "station": "there/file",
    "models": "there/file",
    "file": "there/file",
    "weights": "there/file",
    "text": "a note",
}
"""What required arguments are given while another one is tried."""


def walked(
    parser: argparse.ArgumentParser, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], argparse.ArgumentParser]]:
    """Yields the parser of every command and of every action of a command."""
    nested = [a for a in actions_of(parser) if a.nargs == argparse.PARSER]
    if not nested:
        yield path, parser
    for name, child in (pair for action in nested for pair in dict(action.choices or ()).items()):
        yield from walked(child, (*path, name))


COMMANDS: Mapping[str, Command] = {
    name: replace(command, run=lambda _: 0) for name, command in cli.find_commands().items()
}
PARSER = cli.make_parser(dict(COMMANDS))
PARSERS: Parsers = dict(walked(PARSER))


def with_values(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    """Returns the options and arguments that take a value."""
    return [a for a in actions_of(parser) if a.nargs != 0 and a.dest != "help"]


def unchecked(parser: argparse.ArgumentParser) -> list[str]:
    """Returns the options that take any value of a kind: `int` takes -1, and `float` takes NaN."""
    return [
        action.dest
        for action in with_values(parser)
        if action.choices is None and action.type in (None, str, int, float, Path)
    ]


def name_of(action: argparse.Action) -> str:
    return action.option_strings[-1] if action.option_strings else action.dest


def line_with(
    path: tuple[str, ...], parser: argparse.ArgumentParser, tried: argparse.Action, value: str
) -> list[str]:
    """Returns a command line that gives one option a value, and the others what they need."""
    groups = exclusive_groups(parser)
    excluded = [other for _, group in groups if tried in group for other in group]
    chosen = [group[0] for required, group in groups if required and tried not in group]
    line = list(path)
    for action in actions_of(parser):
        if action is tried:
            line += [f"{name_of(action)}={value}"] if action.option_strings else [value]
        elif (action.required and action not in excluded) or action in chosen:
            needed = NEEDED[name_of(action)]
            line += [name_of(action), needed] if action.option_strings else [needed]
    return line


def answer(line: list[str], capsys: Captured) -> tuple[int, str]:
    """Returns the exit code and what is on standard error."""
    try:
        code = cli.main(line)
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
    return code, capsys.readouterr().err


@pytest.fixture
def workless(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every command parses and checks, and then does nothing."""
    monkeypatch.setattr(cli, "find_commands", lambda _: COMMANDS)
    monkeypatch.setattr(cli, "make_parser", lambda _: PARSER)
    monkeypatch.setenv("DIFFERNET_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "file").write_bytes(b"x")
    return tmp_path


def test_every_command_is_tried() -> None:
    assert {path[0] for path in PARSERS} == set(COMMANDS) >= {"train", "calibrate", "run", "export"}
    assert not [name for name, command in COMMANDS.items() if command.missing]


@pytest.mark.parametrize("path", PARSERS, ids=" ".join)
def test_absurd_values_are_taken_or_refused_in_one_line(
    path: tuple[str, ...], workless: Path, capsys: Captured
) -> None:
    before = sorted(workless.rglob("*"))
    for action in actions_of(PARSERS[path]):
        for value in ABSURD:
            line = line_with(path, PARSERS[path], action, value)
            code, shown = answer(line, capsys)
            assert code in (0, 2), line
            if code == 0:
                assert shown == "", line
            else:
                assert shown.count("\n") == 1, line
                named = action.option_strings or [action.dest, str(action.metavar), value or "?"]
                assert any(name in shown for name in named), (line, shown)
    assert sorted(workless.rglob("*")) == before, "a check left something behind"


@pytest.mark.parametrize("path", PARSERS, ids=" ".join)
def test_every_option_has_a_check(path: tuple[str, ...]) -> None:
    assert unchecked(PARSERS[path]) == [], "give it choices or a type of commands.arguments"


@pytest.mark.parametrize("kind", [None, str, int, float, Path])
def test_an_option_without_a_check_is_found(kind: Callable[[str], object]) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--new", type=kind)
    parser.add_argument("--flag", action="store_true")
    assert unchecked(parser) == ["new"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("train --false-reject-rate 5", "--false-reject-rate: '5' is not a share above 0"),
        ("train --false-reject-rate 0", "--false-reject-rate: '0' is not a share above 0"),
        ("train --false-reject-rate nan", "--false-reject-rate: 'nan' is not a share above 0"),
        ("calibrate --false-reject-rate 1", "--false-reject-rate: '1' is not a share above 0"),
        ("train --white-level 0", "--white-level: '0' is not a whole number from 255 to 65535"),
        ("train --threads -1", "--threads: '-1' is not a whole number from 0"),
        ("train --seed 99999999999", "--seed: '99999999999' is not a whole number from 0"),
        ("train --size 0x64", "--size 0x64: height: "),
        ("train --size 65", "--size 65x65: height: "),
        ("train --tiles 40x1", "--tiles takes ROWSxCOLUMNS"),
        ("train --groups (", "--groups: '(' is not a regular expression"),
        ("train --dropout 1 --recipe paper", "--dropout 1.0: Input should be less than 1"),
        ("train --size 128 --recipe paper", "--size 128x128: alexnet needs 256 pixels"),
        ("train --tap 99", "--tap: the extractor has blocks 0 to 15; received tap 99"),
        ("train --extractor lenet", "--extractor: there is no extractor 'lenet'"),
        ("train --recipe best", "--recipe: there is no recipe 'best'; choose from edge"),
        ("train --tiles 1x2 --recipe edge-global", "--tiles needs a recipe with heads"),
        ("train --weights missing", "--weights: 'missing': No such file"),
        ("train --output there/file", "/there/file is a file, where a folder is needed"),
        ("train --data there --cache there/file", "--cache: there/file can't be written: "),
        ("import --size 450", "--size: '450' is not a multiple of 4"),
        ("import --size 64", "--size: '64' is not a whole number from 256 to 8192"),
        ("export --output there", "--output: there is a folder; the name of a file"),
        ("calibrate --output there/file/x", "there/file/x can't be written: "),
        ("calibrate --backend tpu", "--backend: there is no backend 'tpu'; did you mean gpu?"),
        ("calibrate --camera left", "--camera goes with --scores"),
        ("run --save there/file", "--save: there/file can't be written: "),
        ("run --output there", "--output: there is a folder"),
        ("verify --limit -1", "--limit: '-1' is not a number from 0 to 1"),
    ],
)
def test_what_can_not_be_meant_is_refused_with_its_reason(
    line: str, message: str, workless: Path, capsys: Captured
) -> None:
    name, option, *rest = line.split()
    parser = PARSERS[(name,)]
    action = next(a for a in actions_of(parser) if option in a.option_strings)
    code, shown = answer([*line_with((name,), parser, action, rest[0]), *rest[1:]], capsys)
    assert code == 2
    assert message in shown


def test_a_folder_that_can_not_be_written_is_told_before_the_work(
    workless: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    code, shown = answer(["train", "--data", "there", "--output", "new"], capsys)
    assert code == 2
    assert "--output: new can't be written: Permission denied" in shown


def test_a_finished_model_is_not_replaced_unasked(workless: Path, capsys: Captured) -> None:
    (workless / "new").mkdir()
    (workless / "new" / "model.json").write_text("{}")
    line = ["train", "--data", "there", "--output", "new"]
    assert answer(line, capsys) == (
        2,
        "differnet: --output new already holds a finished model. Train into another folder, or "
        "replace it: --overwrite.\n",
    )
    assert answer([*line, "--overwrite"], capsys) == (0, "")
