"""The log: each record on lines of its own, printable, and without passwords."""

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
    """Formats a record so that no name in it can start a line or control the terminal.

    Args:
        form: Format, as for `logging.Formatter`.
        several_lines: Whether messages may have several lines, as a command's own messages do;
            their authors escape the names in them.

    Example:
        >>> handler.setFormatter(PrintableFormatter("%(levelname)s %(message)s"))  # doctest: +SKIP
    """

    def __init__(self, form: str | None = None, *, several_lines: bool = False) -> None:
        super().__init__(form)
        self._shown = printable_lines if several_lines else printable

    def format(self, record: logging.LogRecord) -> str:
        """Returns the message, with the lines of a traceback indented after it."""
        from .config.grammar import redact_text  # heavy, and most commands log nothing

        whole = super().format(record)
        message, traceback = whole, ""
        if record.exc_text or record.stack_info:
            traceback = "\n".join(text for text in (record.exc_text, record.stack_info) if text)
            message = whole[: -len(traceback) - 1]
        after = [printable(line) for line in redact_text(traceback).splitlines()]
        return "\n  ".join([_coloured(self._shown(redact_text(message)), record), *after])


def _coloured(text: str, record: logging.LogRecord) -> str:
    """Colours the level at the start of a message, or all of a message without one."""
    meaning = _MEANINGS.get(record.levelno)
    level = record.levelname if text.startswith(record.levelname) else text
    return coloured(level, meaning, sys.stderr) + text[len(level) :]


def start(level: str) -> None:
    """Starts the log of a station on standard error; see `set_level` for the level."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(PrintableFormatter(_FORMAT))
    logging.basicConfig(handlers=[handler])
    set_level(level)


def set_level(level: str) -> None:
    """Sets how much is logged.

    Args:
        level: `debug`, `info`, `warning` or `error`. Libraries stay at `info`, since their debug
            messages contain addresses with secrets.
    """
    number = logging.getLevelName(level.upper())
    logging.getLogger(_OURS).setLevel(number)
    logging.getLogger().setLevel(max(number, logging.INFO))
