"""Types of texts that come from outside, for fields of records: checked, or made printable."""

from __future__ import annotations

from typing import Annotated

from pydantic import (
    AfterValidator,
    Field,
    TypeAdapter,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)

from .text import UNPRINTABLE, printable, printable_lines

LONGEST_PART, LONGEST_NOTE = 256, 1000


def in_words(advice: str) -> WrapValidator:
    """Returns a validator that answers a text outside its pattern with advice.

    The pattern itself is a `Field`'s, so that JSON schemas show exactly what is checked.

    Args:
        advice: Says what to write instead, as the error's text.
    """

    def check(value: object, validate: ValidatorFunctionWrapHandler) -> object:
        try:
            return validate(value)
        except ValidationError as error:
            if any(one["type"] == "string_pattern_mismatch" for one in error.errors()):
                raise ValueError(advice) from None
            raise

    return WrapValidator(check)


_LINE = Field(pattern=f"^[^{UNPRINTABLE}]*$")
_LINES = Field(pattern=f"^(?:[^{UNPRINTABLE}]|\\n)*$")
ContentHash = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
"""A model's SHA-256, in hexadecimal."""
Lines = Annotated[str, _LINES, in_words("write printable characters and line breaks only")]
"""A text that a person writes, on one or more lines."""
Note = Annotated[Lines, Field(max_length=LONGEST_NOTE)]
"""A person's note on a model."""
Shown = Annotated[str, AfterValidator(printable)]
"""A text of a file that somebody else wrote; what is not printable in it is escaped."""
ShownLines = Annotated[str, AfterValidator(printable_lines)]
"""The same, of several lines."""
PartId = Annotated[
    str,
    Field(min_length=1, max_length=LONGEST_PART),
    _LINE,
    in_words("write printable characters only, without line breaks"),
]
"""The id of a part as a controller sends it, over HTTP or MQTT."""
PATTERN = r"^ed25519:[A-Za-z0-9+/]{43}=( [^\x00-\x1f\x7f]{1,64})?$"
PublicKey = Annotated[str, Field(pattern=PATTERN)]
"""`ed25519:BASE64 NAME`, a line of a `.pub` file or of a configuration: the key, and whose
it is, for people; the name may be left out."""
_PART: TypeAdapter[str] = TypeAdapter(PartId)
_NOTE: TypeAdapter[str] = TypeAdapter(Note)


def is_part_id(value: object) -> bool:
    """Returns whether a value may be a part's id."""
    return _is(_PART, value)


def is_note(value: object) -> bool:
    """Returns whether a value may be a note on a model."""
    return _is(_NOTE, value)


def _is(kind: TypeAdapter[str], value: object) -> bool:
    try:
        kind.validate_python(value, strict=True)
    except ValidationError:
        return False
    return True
