"""What is written to the log: each record on its lines, printable, and without passwords."""

from __future__ import annotations

import logging
import sys

from .printable import printable

_OURS = "differnet_runtime"
_FORMAT = "%(levelname)s %(name)s: %(message)s"


class PrintableFormatter(logging.Formatter):
    """Writes a record so that no name in it can begin a line, or command a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        """Returns the record's line; those of a traceback after it are indented."""
        from .redaction import redact_text  # heavy, and most commands log nothing

        whole = super().format(record)
        message, traceback = whole, ""
        if record.exc_text or record.stack_info:
            after = "\n".join(text for text in (record.exc_text, record.stack_info) if text)
            message, traceback = whole[: -len(after) - 1], after
        lines = [redact_text(message), *redact_text(traceback).splitlines()]
        return "\n  ".join(printable(line) for line in lines)


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
