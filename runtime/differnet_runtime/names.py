"""Names that come from outside, as fields of what is read: refused or escaped."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field, TypeAdapter, ValidationError

from .printable import printable, printable_lines

LONGEST_PART, LONGEST_NOTE = 256, 1000


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("write printable characters only, without line breaks")
    return text


def _printable_lines(text: str) -> str:
    if not all(line.isprintable() for line in text.split("\n")):
        raise ValueError("write printable characters and line breaks only")
    return text


Lines = AfterValidator(_printable_lines)
"""Allows only printable characters and line breaks in a text that a person writes."""
ContentHash = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
"""A model's SHA-256, in hexadecimal."""
Note = Annotated[str, Field(max_length=LONGEST_NOTE), Lines]
"""A person's note on a model."""
Shown = Annotated[str, AfterValidator(printable)]
"""A text of a file that somebody else wrote; what is not printable in it is escaped."""
ShownLines = Annotated[str, AfterValidator(printable_lines)]
"""The same, of several lines."""
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
