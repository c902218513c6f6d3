"""What is written to the log: each record on its lines, printable, and without passwords."""

from __future__ import annotations

import logging
import sys

from .text import Meaning, coloured, printable, printable_lines

_OURS = "differnet_runtime"
_MEANINGS: dict[int, Meaning] = {
    logging.WARNING: "look",
    logging.ERROR: "bad",
    logging.CRITICAL: "bad",
}
_FORMAT = "%(levelname)s %(name)s: %(message)s"


class PrintableFormatter(logging.Formatter):
    """Writes a record so that no name in it can begin a line, or command a terminal.

    Args:
        form: As `logging.Formatter` takes it.
        several_lines: For a command's own messages, which may have several lines; whoever writes
            one escapes the names in it.
    """

    def __init__(self, form: str | None = None, *, several_lines: bool = False) -> None:
        super().__init__(form)
        self._shown = printable_lines if several_lines else printable

    def format(self, record: logging.LogRecord) -> str:
        """Returns the record's line; those of a traceback after it are indented."""
        from .config.grammar import redact_text  # heavy, and most commands log nothing

        whole = super().format(record)
        message, traceback = whole, ""
        if record.exc_text or record.stack_info:
            traceback = "\n".join(text for text in (record.exc_text, record.stack_info) if text)
            message = whole[: -len(traceback) - 1]
        after = [printable(line) for line in redact_text(traceback).splitlines()]
        return "\n  ".join([self._coloured(self._shown(redact_text(message)), record), *after])

    def _coloured(self, text: str, record: logging.LogRecord) -> str:
        """Colours the level at the beginning of a line; a command's message has none: all of it."""
        meaning = _MEANINGS.get(record.levelno)
        if not text.startswith(record.levelname):
            return coloured(text, meaning, sys.stderr)
        level = coloured(record.levelname, meaning, sys.stderr)
        return level + text.removeprefix(record.levelname)


def start(level: str) -> None:
    """Begins to write the daemon's log to standard error.

    Args:
        level: See `set_level`.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(PrintableFormatter(_FORMAT))
    logging.basicConfig(handlers=[handler])
    set_level(level)


def set_level(level: str) -> None:
    """Changes how much is logged.

    Args:
        level: `debug`, `info`, `warning` or `error`; libraries stay at `info`, since what they say
            beyond that holds addresses with their secrets.
    """
    number = logging.getLevelName(level.upper())
    logging.getLogger(_OURS).setLevel(number)
    logging.getLogger().setLevel(max(number, logging.INFO))
