"""Cards: what a stored model file says about itself, and what suggests it is for another part."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter

from ..errors import DifferNetError, ModelFileError
from ..files import write_bytes
from ..model_file.contract import PictureSizes, Region, StrictModel
from ..model_file.detection_limits import brief
from ..model_file.file import content_hash, read_model_file
from ..model_file.metadata import ModelMetadata
from ..model_file.signing import describe_signature
from ..names import LONGEST_NOTE, Note
from ..sentences import sentence
from ..text import nearest, printable_lines

ACTIVE = "active"
"""Name of the link to the file that judges."""
_NEAR = 1.1
"""Aspect ratios whose quotient is smaller count as equal."""
_NUMBERED = re.compile(r"[\W_]*v?\d[\d\W_]*$")
_NOTE: TypeAdapter[str] = TypeAdapter(Note)


@dataclass(frozen=True)
class FileContent:
    """What was read from a stored file.

    Args:
        metadata: None if the file is damaged.
        signature: Whether it is signed, and by which key, in words; None if it is damaged.
        damaged: Why the file can't be used; None if it can.
    """

    metadata: ModelMetadata | None = None
    signature: str | None = None
    damaged: str | None = None


def read_stored(path: Path) -> FileContent:
    """Reads a file of the store; a damaged one says so."""
    metadata = None
    try:
        data, metadata = verified(path)
        return FileContent(metadata, describe_signature(data, str(path)))
    except DifferNetError as error:
        return FileContent(metadata, damaged=str(error))


def verified(path: Path) -> tuple[bytes, ModelMetadata]:
    """Reads a stored file, and checks that its name is the hash of its content.

    Raises:
        ModelFileError: It is damaged.
    """
    data, metadata = read_model_file(path)
    if content_hash(data) != path.stem:
        raise ModelFileError(sentence("model_damaged", path=path))
    return data, metadata


class Card(StrictModel):
    """How a model was made, as its file records it, and a person's note.

    Everything but the note comes from the file, and is None if the file is damaged.

    Args:
        own_name: The model's name in the file.
        trained: Time of the training, ISO 8601.
        parts: Number of pictures of good parts that it was fitted on.
        detection_limit: The sizes from which painted defects are found, in one line.
        note: The note; None if there is none.
    """

    own_name: str | None = None
    trained: str | None = None
    parts: int | None = None
    detection_limit: str | None = None
    note: str | None = None


def card_of(metadata: ModelMetadata | None, note: str | None = None) -> Card:
    """Returns the card of a model; of a damaged one only the note is known."""
    if metadata is None:
        return Card(note=note)
    made, limits = metadata.provenance, metadata.detection_limits
    return Card(
        own_name=metadata.name,
        trained=made.created or None,
        parts=made.images or None,
        detection_limit=brief(limits) if limits else None,
        note=note,
    )


def note_of(folder: Path, digest: str) -> str | None:
    """Returns the note on a model, if there is one.

    Args:
        folder: The folder of the model's name in the store.
        digest: Content hash of the model.
    """
    with contextlib.suppress(OSError):
        text = _note_file(folder, digest).read_bytes()[: 4 * LONGEST_NOTE]
        return printable_lines(text.decode("utf-8", "replace"))[:LONGEST_NOTE] or None
    return None


def write_note(folder: Path, digest: str, note: str) -> None:
    """Writes the note on a model; an empty one removes it.

    Args:
        folder: The folder of the model's name in the store.
        digest: Content hash of the model.
        note: At most 1000 printable characters and line breaks.

    Raises:
        ValidationError: The note is longer, or has other characters.
        OutputError: The note can't be written.
    """
    if text := _NOTE.validate_python(note).strip():
        write_bytes(_note_file(folder, digest), text.encode())
    else:
        _note_file(folder, digest).unlink(missing_ok=True)


def _note_file(folder: Path, digest: str) -> Path:
    return folder / "notes" / f"{digest}.txt"


def names_in(root: Path) -> tuple[str, ...]:
    """Returns the names of a store's models, sorted, without reading the files."""
    return tuple(sorted({path.parents[1].name for path in root.glob("*/files/*.onnx")}))


def advice(root: Path, name: str) -> str:
    """Returns why no model of a name in a store can judge, and what to do."""
    names: tuple[str, ...] = ()
    with contextlib.suppress(OSError):
        names = names_in(root)
    if name in names:
        gone = os.path.lexists(root / name / ACTIVE)
        return sentence("model_active_gone" if gone else "model_none_active", root=root, name=name)
    close = nearest(name, names)
    listed = f" (it has {', '.join(names)})" if names else ""
    others = f" (did you mean {close}?)" if close else listed
    return sentence("model_none", root=root, name=name, others=others)


def caution(new: ModelMetadata, present: ModelMetadata) -> str | None:
    """Returns why a model may be for another part than the active one; None if nothing suggests it.

    Models that were trained on some of the same pictures are for the same part.
    """
    shared = new.provenance.shares_pictures(present.provenance)
    reasons = "" if shared else "; ".join(_differences(new, present))
    return sentence("other_part", why=reasons) if reasons else None


def _differences(new: ModelMetadata, present: ModelMetadata) -> Iterator[str]:
    if not _alike(new.name, present.name):
        yield sentence("other_name", name=new.name, present=present.name)
    sizes = new.picture_sizes, present.picture_sizes
    if sizes[0] and sizes[1] and not _same_sizes(sizes[0], sizes[1]):
        yield sentence("other_size", size=sizes[0], present=sizes[1])
    regions = new.input.region, present.input.region
    if regions[0] and regions[1] and not _overlap(regions[0], regions[1]):
        yield sentence("other_region", region=regions[0], present=regions[1])
    looks = new.appearance, present.appearance
    if looks[0] and looks[1]:
        darker = looks[0].brightest < looks[1].darkest
        if darker or looks[0].darkest > looks[1].brightest:
            yield sentence("other_darker" if darker else "other_brighter")


def _alike(*names: str) -> bool:
    """Compares two names without case, and without a number or version at their ends."""
    one, other = (_NUMBERED.sub("", name.lower()) or name.lower() for name in names)
    return one.startswith(other) or other.startswith(one)


def _same_sizes(one: PictureSizes, other: PictureSizes) -> bool:
    if one.varied and other.varied:
        lowest, highest = max(one.aspect[0], other.aspect[0]), min(one.aspect[1], other.aspect[1])
        return lowest <= highest * _NEAR
    known, asked = (other, one) if one.sizes else (one, other)
    return any(known.accepts(*size) for size in asked.sizes)


def _overlap(one: Region, other: Region) -> bool:
    return (
        one.x < other.x + other.width
        and other.x < one.x + one.width
        and one.y < other.y + other.height
        and other.y < one.y + one.height
    )
