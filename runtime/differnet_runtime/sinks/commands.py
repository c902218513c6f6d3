"""What a broker's command says: which camera is to judge, and which part lies before it."""

from __future__ import annotations

import json

from ..errors import DifferNetError
from ..names import LONGEST_PART, is_part_id

_LONGEST = 4096


class CommandError(DifferNetError):
    """A command can't be read."""


def read_command(payload: bytes) -> str | None:
    """Returns the part of a command: `{"part": "..."}`, or nothing.

    Raises:
        CommandError: It is something else.
    """
    if len(payload) > _LONGEST:
        raise CommandError(f"a command of {len(payload)} bytes; at most {_LONGEST} are read")
    if not payload.strip():
        return None
    try:
        content = json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise CommandError(f'{payload[:60]!r} is not JSON; expected {{"part": "..."}}') from error
    if not isinstance(content, dict) or content.keys() - {"part"}:
        raise CommandError(
            f'received {payload[:60]!r}; expected {{"part": "..."}} and nothing else'
        )
    part = content.get("part")
    if part is None:
        return None
    if not isinstance(part, str) or not is_part_id(part):
        raise CommandError(
            f"a part is a printable text of 1 to {LONGEST_PART} characters; "
            f"received {payload[:60]!r}"
        )
    return part
