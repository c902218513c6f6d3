"""Views with sentences that the page can say in its own language."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from pydantic import Field, model_validator

from .model_file.contract import StrictModel
from .sentences import Said, said


class Telling(StrictModel):
    """A view in which some fields hold sentences for people, in English.

    Args:
        said: The code and the values of each sentence that is known (`sentences.SENTENCES`), by its
            field; in a field of several sentences by name, by `FIELD.NAME`.
    """

    SENTENCES: ClassVar[tuple[str, ...]] = ()
    """The fields."""

    said: dict[str, Said] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _take_apart(cls, values: Any) -> Any:  # noqa: ANN401 - whatever is validated
        if not isinstance(values, Mapping):
            return values
        return {**values, "said": cls.taken_apart(values)}

    @classmethod
    def taken_apart(cls, values: Mapping[str, Any]) -> dict[str, Said]:
        """Returns what `said` holds.

        Args:
            values: The values of all its fields.
        """
        texts = dict(_texts(values, cls.SENTENCES))
        return {key: found for key, text in texts.items() if (found := said(text)) is not None}


def _texts(values: Mapping[str, Any], fields: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    for field in fields:
        value = values.get(field)
        if isinstance(value, str):
            yield field, value
        elif isinstance(value, Mapping):
            yield from ((f"{field}.{name}", text) for name, text in value.items())
