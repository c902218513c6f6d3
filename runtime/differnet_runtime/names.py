"""What a name that comes from outside may hold: the one rule for texts that people will read."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field, TypeAdapter, ValidationError

LONGEST_PART = 256


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("write printable characters only, without line breaks")
    return text


PartId = Annotated[str, Field(min_length=1, max_length=LONGEST_PART), AfterValidator(_printable)]
"""The id of a part as a controller sends it, over HTTP or MQTT."""
_PART: TypeAdapter[str] = TypeAdapter(PartId)


def is_part_id(value: object) -> bool:
    """Returns whether a value may be a part's id."""
    try:
        _PART.validate_python(value, strict=True)
    except ValidationError:
        return False
    return True


def printable(text: str) -> str:
    r"""Returns a text for a log or a terminal: what is not printable is written as `\x1b`."""
    return "".join(
        one if one.isprintable() else one.encode("unicode_escape", "surrogatepass").decode()
        for one in text
    )
