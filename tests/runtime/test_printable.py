"""Nothing from outside commands a terminal, begins a line of a log, or turns one around."""

from __future__ import annotations

import io
import logging
import re
import sys
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from differnet_runtime import logs
from differnet_runtime.cli import main
from differnet_runtime.errors import ConfigError, ImageReadError
from differnet_runtime.events import AuditEvent, FrameRef, StateEvent
from differnet_runtime.labels import Comment, Kind
from differnet_runtime.model_file.metadata import ModelMetadata
from differnet_runtime.models.store import ModelStore
from differnet_runtime.names import Note, PartId, is_note, is_part_id
from differnet_runtime.text import UNPRINTABLE, file_name, printable, printable_lines

NASTY = "part\x1b[2J\r\n\x7f\x9bGOOD\N{RIGHT-TO-LEFT OVERRIDE}gnp.\x00"
SHOWN = r"part\x1b[2J\x0d\x0a\x7f\u009bGOOD\u202egnp.\x00"
names = st.binary(min_size=1).filter(lambda name: b"/" not in name and b"\0" not in name)


@given(st.text())
def test_a_text_is_printable_and_stays_so(text: str) -> None:
    assert printable(text).isprintable()
    assert printable(printable(text)) == printable(text)
    assert all(line.isprintable() for line in printable_lines(text).split("\n"))


def test_what_is_refused_is_what_would_be_escaped() -> None:
    refused = re.compile(f"[{UNPRINTABLE}]")
    known = (chr(code) for code in range(sys.maxunicode + 1))
    named = (one for one in known if unicodedata.category(one) not in ("Cn", "Cs"))
    differing = [one for one in named if (refused.match(one) is None) != one.isprintable()]
    assert [f"U+{ord(one):04X}" for one in differing] == []


@given(st.one_of(st.text(), st.text(st.sampled_from("a .-/:\n\r\x00\u202e"), max_size=6)))
def test_schemas_of_written_texts_say_what_is_accepted(text: str) -> None:
    for kind in (PartId, Note, Comment, Kind):
        adapter: TypeAdapter[str] = TypeAdapter(kind)
        schema = adapter.json_schema()
        long_enough = schema.get("minLength", 0) <= len(text) <= schema["maxLength"]
        described = long_enough and re.fullmatch(schema["pattern"].strip("^$"), text) is not None
        try:
            accepted = adapter.validate_python(text) == text
        except ValidationError:
            accepted = False
        assert accepted == described


def test_lengths_and_surrogates_of_written_texts() -> None:
    assert is_part_id("x" * 256)
    assert is_note("first\n\nthird")
    assert not any(map(is_part_id, ("", "x" * 257, "a\n", "a\ud800", 7)))
    assert not any(map(is_note, ("x" * 1001, "a\r\nb", "a\udce4")))


@given(st.lists(names, min_size=2, max_size=2, unique=True))
def test_different_files_have_different_names(two: list[bytes]) -> None:
    first, second = (file_name(name.decode("utf-8", "surrogateescape")) for name in two)
    assert first != second
    assert first.isprintable()


def test_it_is_told_what_was_there() -> None:
    assert printable(NASTY) == SHOWN
    assert printable("Käse \N{GREEK SMALL LETTER BETA} \\x") == "Käse β \\x"
    assert file_name("a\udce4\\x\n") == r"a\xe4\x5cx\x0a"


def test_errors_and_events_show_it() -> None:
    assert str(ImageReadError(NASTY, "it is empty")) == r"part\x1b[2J\x0d" + "\n" + (
        r"\x7f\u009bGOOD\u202egnp.\x00: it is empty"
    )
    state = StateEvent(station="line", component="camera:top", state="lost", reason="\x1b[2J")
    assert state.reason == r"\x1b[2J"
    assert AuditEvent(station="line", action="activate", by="files", new="\x9b").new == r"\u009b"
    frame = FrameRef(name=NASTY, index=0, captured_at_s=0, age_ms=0, width=8, height=8)
    assert frame.name == SHOWN


@pytest.fixture
def log() -> io.StringIO:
    """What a handler of the daemon writes."""
    return io.StringIO()


def fails(text: str) -> None:
    raise OSError(text)


def logged(log: io.StringIO, write: Callable[[logging.Logger], None]) -> list[str]:
    handler = logging.StreamHandler(log)
    handler.setFormatter(logs.PrintableFormatter("%(levelname)s %(message)s"))
    logger = logging.Logger("differnet_runtime.test")
    logger.addHandler(handler)
    write(logger)
    assert all(line.isprintable() for line in log.getvalue().split("\n"))
    return log.getvalue().splitlines()


def test_a_record_is_a_line_of_the_log(log: io.StringIO) -> None:
    assert logged(log, lambda logger: logger.info("%s lost", NASTY)) == [f"INFO {SHOWN} lost"]


def test_a_commands_message_has_its_lines_and_no_name_adds_one(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from differnet_runtime.inspection.examination import ImageFinding, Weight, listed

    found = [ImageFinding(Path("a\nb\x1b.png"), "strange", "unlike others", Weight.NOTE)]
    record = logging.LogRecord("n", logging.WARNING, "", 0, "Look:\n%s", (listed(found),), None)
    monkeypatch.setattr(logging, "lastResort", logging.StreamHandler())
    with pytest.raises(SystemExit):
        main(["--version"])
    assert logging.lastResort is not None
    first, second = logging.lastResort.format(record).split("\n")
    assert first == "Look:"
    assert second.startswith(r"  a\x0ab\x1b.png: strange")
    capsys.readouterr()


def test_no_name_in_a_traceback_begins_a_line(log: io.StringIO) -> None:
    def fail(logger: logging.Logger) -> None:
        try:
            fails("\nINFO engine: ok\x1b[A")
        except OSError:
            logger.exception("a mistake")

    first, *others = logged(log, fail)
    assert first == "ERROR a mistake"
    assert r"  INFO engine: ok\x1b[A" in others
    assert all(line.startswith("  ") for line in others)


def test_no_password_of_an_address_gets_into_the_log(log: io.StringIO) -> None:
    def tell(logger: logging.Logger) -> None:
        logger.warning("no answer from %s", "rtsp://user:hunter2@camera/stream?token=hunter2")
        try:
            fails("https://user:hunter2@host/x")
        except OSError:
            logger.exception("a mistake")

    assert "hunter2" not in "".join(logged(log, tell))


def test_libraries_say_no_more_than_they_should(monkeypatch: pytest.MonkeyPatch) -> None:
    root, ours = logging.getLogger(), logging.getLogger("differnet_runtime")
    before = root.level, ours.level
    try:
        logs.set_level("debug")
        assert ours.isEnabledFor(logging.DEBUG)
        assert not logging.getLogger("urllib3.connectionpool").isEnabledFor(logging.DEBUG)
        logs.set_level("error")
        assert not ours.isEnabledFor(logging.WARNING)
        assert not logging.getLogger("urllib3.connectionpool").isEnabledFor(logging.WARNING)
    finally:
        root.setLevel(before[0])
        ours.setLevel(before[1])


def test_what_a_model_file_says_of_itself_is_shown_so(
    tiny_model: Callable[..., Path],
    metadata: ModelMetadata,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    versions = {NASTY: NASTY}
    provenance = metadata.provenance.model_copy(
        update={"recipe": NASTY, "created": NASTY, "data_sha256": NASTY, "versions": versions}
    )
    assert metadata.calibration is not None
    calibration = metadata.calibration.model_copy(update={"scored_by": NASTY})
    spec = metadata.extractor.model_copy(update={"name": NASTY, "weights_sha256": NASTY})
    path = tiny_model(
        name="part.onnx", provenance=provenance, calibration=calibration, extractor=spec
    )
    config = tmp_path / "line.toml"
    config.write_text(f'[model]\npath = "{path}"\n[camera.top]\nsource = "0"\n')
    ModelStore(tmp_path / "store").add(path, "washer")
    for arguments in (
        ["info", str(path)],
        ["check", str(config)],
        ["models", "list", "--store", str(tmp_path / "store")],
    ):
        main(arguments)
    shown = capsys.readouterr().out
    assert SHOWN in shown
    assert all(line.isprintable() for line in shown.split("\n"))


def test_a_message_to_the_terminal_is_printable(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["info", str(tmp_path / "a\x1b[2J.onnx")]) == 2
    told = capsys.readouterr().err
    assert r"a\x1b[2J.onnx" in told
    assert "\x1b" not in told
    assert str(ConfigError("one\ntwo")) == "one\ntwo"
